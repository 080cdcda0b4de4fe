// Package samples embeds the manifests of the sample applications, so that the
// demo, drills and tests apply the same files that a reader does.
package samples

import "embed"

// Files holds bookinfo/*.yaml and echo/*.yaml.
//
//go:embed bookinfo/*.yaml echo/*.yaml
var Files embed.FS
