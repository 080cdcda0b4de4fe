//go:build e2e

package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/isthmus-mesh/isthmus/api/v1alpha1"
)

// Linking twice is linking once, unlinking twice too; an unlinked cluster's services
// are gone, and come back with the link.
func TestLinkAndUnlinkTwice(t *testing.T) {
	mesh.Needs(t, WestIsPrimary, Time)
	const ns, url = "link-unlink", "http://echo.link-unlink.svc.clusterset.local"
	mesh.Cleanup(t, "link", "east", "west")
	caller := exportedEcho(t, ns, mesh.West)
	caller.Reaches(t, url, time.Minute, "west")

	mesh.CLI(t, "unlink", "east", "west")
	mesh.CLI(t, "unlink", "east", "west")
	for _, c := range mesh.Clusters() {
		noLinks(t, c)
	}
	mesh.East.NotImported(t, ns, "echo")
	caller.Fails(t, url, 30*time.Second)

	mesh.CLI(t, "link", "east", "west")
	mesh.CLI(t, "link", "east", "west")
	mesh.East.WaitLink(t, "west", 30*time.Second, v1alpha1.LinkConnected)
	mesh.West.WaitLink(t, "east", 30*time.Second, v1alpha1.LinkConnected)
	caller.Reaches(t, url, time.Minute, "west")
}

func noLinks(t *testing.T, c *Cluster) {
	t.Helper()
	other := "west"
	if c.Name == "west" {
		other = "east"
	}
	Eventually(t, 20*time.Second, c.Name+" has no link", func(ctx context.Context) error {
		_, err := c.Link(ctx, other)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it has"), err)
	})
}
