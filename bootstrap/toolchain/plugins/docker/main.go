// Command pulumi-resource-docker is the upstream Docker provider under Pulumi's bridge, as the official plugin is; only
// docker.Image (building images) is not in it.
package main

import (
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge/tokens"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v2"
	pulumitokens "github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	upstream "github.com/terraform-providers/terraform-provider-docker/shim"
)

// version is set by the linker: the version of the Python SDK that asks for this plugin.
var version = "0.0.0"

func main() {
	provider := tfbridge.ProviderInfo{
		P:       sdkv2.NewProvider(upstream.New(version)),
		Name:    "docker",
		Version: version,
		Config: map[string]*tfbridge.SchemaInfo{
			"host":          {Default: &tfbridge.DefaultInfo{EnvVars: []string{"DOCKER_HOST"}, Value: "unix:///var/run/docker.sock"}},
			"registry_auth": {Name: "registryAuth", MaxItemsOne: tfbridge.False()},
		},
		// Where the SDK's name is not what the bridge makes of the provider's.
		Resources: map[string]*tfbridge.ResourceInfo{
			"docker_container": {
				Tok:                 "docker:index/container:Container",
				DeleteBeforeReplace: true, // two containers cannot have one name
				Fields:              map[string]*tfbridge.SchemaInfo{"command": {Name: "command"}, "networks_advanced": {Name: "networksAdvanced"}},
			},
			"docker_image":  {Tok: "docker:index/remoteImage:RemoteImage", Fields: map[string]*tfbridge.SchemaInfo{"name": {Name: "name"}}},
			"docker_config": {Tok: pulumitokens.Type("docker:index/serviceConfig:ServiceConfig")},
		},
	}
	provider.MustComputeTokens(tokens.SingleModule("docker_", "index", tokens.MakeStandard("docker")))
	provider.SetAutonaming(255, "-")
	tfbridge.Main("docker", version, provider, []byte(`{"name":"docker","version":"`+version+`"}`))
}
