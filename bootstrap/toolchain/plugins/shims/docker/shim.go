// Package shim lies below the upstream module, which is what lets it reach an internal package.
package shim

import (
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
	"github.com/terraform-providers/terraform-provider-docker/internal/provider"
)

// New returns the upstream provider.
func New(version string) *schema.Provider { return provider.New(version)() }
