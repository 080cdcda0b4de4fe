package clusterset

import (
	"cmp"
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/drill/cluster"
)

// Installed is what an installation says of itself.
type Installed struct {
	Cluster     string `json:"cluster"`
	Network     string `json:"network"`
	Primary     string `json:"primary,omitempty"` // of a remote: the cluster that serves it
	TrustDomain string `json:"trustDomain"`
	Clusterset  string `json:"clusterset"`
	Hub         string `json:"hub,omitempty"`
	Tag         string `json:"tag,omitempty"`
	MTLS        string `json:"mtls,omitempty"`
}

// DefaultSet is the clusterset's name where nobody chose one.
const DefaultSet = "default"

// Find reads the installation in c; nil where there is none.
func Find(ctx context.Context, c *cluster.Cluster) (*Installed, error) {
	m, err := c.Kube.CoreV1().ConfigMaps(api.SystemNamespace).Get(ctx, api.MeshConfigMapName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read installation in %s: %w", c.Context, err)
	}
	d := m.Data
	return &Installed{Cluster: d["cluster"], Network: d["network"], Primary: d["primary"], TrustDomain: d["trustDomain"], Clusterset: cmp.Or(d["clusterset"], DefaultSet), Hub: d["hub"], Tag: d["tag"], MTLS: d["mtls"]}, nil
}
