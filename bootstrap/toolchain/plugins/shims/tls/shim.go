// Package shim lies below the upstream module, which is what lets it reach an internal package.
package shim

import (
	"github.com/hashicorp/terraform-plugin-framework/provider"
	tls "github.com/hashicorp/terraform-provider-tls/internal/provider"
)

// New returns the upstream provider.
func New() provider.Provider { return tls.New() }
