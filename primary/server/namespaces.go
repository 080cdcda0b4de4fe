package server

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/isthmus-mesh/isthmus/api"
)

// ParseExportNamespaces reads the system namespaces whose services may be
// exported all the same, sorted and each once. Our own never is one of them: it
// holds the gateways and the control plane.
func ParseExportNamespaces(names []string) ([]string, error) {
	for _, name := range names {
		if len(validation.IsDNS1123Label(name)) > 0 {
			return nil, fmt.Errorf("%q is no name of a namespace", name)
		}
		if name == api.SystemNamespace {
			return nil, fmt.Errorf("%s is never exported", name)
		}
	}
	out := slices.Clone(names)
	slices.Sort(out)
	return slices.Compact(out), nil
}
