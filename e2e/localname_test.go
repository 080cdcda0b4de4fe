//go:build e2e

package e2e

import (
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
)

// With the annotation callers of the cluster.local name fail over too, and come back; without it, and after it is
// taken away, the name stays local.
func TestLocalNameFailover(t *testing.T) {
	t.Parallel()
	const ns, url = "local-name", "http://echo.local-name.svc.cluster.local"
	caller := exportedEcho(t, ns, mesh.East, mesh.West)
	caller.Reaches(t, url, time.Minute, "east")
	mesh.East.Scale(t, ns, "echo-v1", 0)
	caller.Fails(t, url, 30*time.Second)

	annotateExport(t, mesh.East, ns, "echo", api.AnnotationLocalName, api.LocalNameFailover)
	caller.Reaches(t, url, 30*time.Second, "west")
	caller.Reaches(t, "banner://echo."+ns+".svc.cluster.local:9091", 30*time.Second, "west")
	traffic := caller.Traffic(t, url, 50, 2*time.Minute)
	traffic.Flowing(50)
	mesh.East.Scale(t, ns, "echo-v1", 1)
	answeredBy(t, traffic, "east", 30*time.Second)
	mesh.East.Scale(t, ns, "echo-v1", 0)
	answeredBy(t, traffic, "west", 30*time.Second)
	if lost := failures(traffic.Stop()); lost != "" {
		t.Error(lost)
	}

	annotateExport(t, mesh.East, ns, "echo", api.AnnotationLocalName, "")
	caller.Fails(t, url, 30*time.Second)
	caller.Reaches(t, "http://echo."+ns+".svc.clusterset.local", 20*time.Second, "west")
}
