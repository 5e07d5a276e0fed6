// Command pulumi-resource-tls is the upstream TLS provider under Pulumi's bridge, as the official plugin is.
package main

import (
	"context"

	upstream "github.com/hashicorp/terraform-provider-tls/shim"
	pluginframework "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/pf/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge/tokens"
)

// version is set by the linker: the version of the Python SDK that asks for this plugin.
var version = "0.0.0"

func main() {
	provider := tfbridge.ProviderInfo{
		P:                           pluginframework.ShimProvider(upstream.New()),
		Name:                        "tls",
		Version:                     version,
		MetadataInfo:                tfbridge.NewProviderMetadata([]byte("{}")),
		EnableAccurateBridgePreview: true,
	}
	provider.MustComputeTokens(tokens.SingleModule("tls_", "index", tokens.MakeStandard("tls")))
	schema := []byte(`{"name":"tls","version":"` + version + `"}`)
	pluginframework.Main(context.Background(), "tls", provider, pluginframework.ProviderMetadata{PackageSchema: schema})
}
