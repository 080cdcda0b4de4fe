//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// A sidecar takes plaintext from outside the mesh until its namespace is strict, and mTLS
// before and after.
func TestStrictRefusesPlaintext(t *testing.T) {
	t.Parallel()
	const ns, url = "strict", "http://echo.strict.svc.cluster.local"
	mesh.East.Namespace(t, ns, true)
	mesh.East.Apply(t, ns, echoFile)
	mesh.East.Ready(t, ns, "app=echo", 1)
	mesh.East.Namespace(t, ns+"-bare", false)
	meshed, bare := NewCaller(t, mesh.East, ns), NewCaller(t, mesh.East, ns+"-bare")

	meshed.Reaches(t, url, time.Minute, "east")
	bare.Reaches(t, url, 30*time.Second, "east")
	bare.Reaches(t, "banner://echo.strict.svc.cluster.local:9091", 30*time.Second, "east")

	mesh.East.Apply(t, ns, "strict.yaml")
	bare.Fails(t, url, 30*time.Second)
	bare.Fails(t, "tcp://echo.strict.svc.cluster.local:9090", 30*time.Second)
	s := meshed.Reaches(t, url, 30*time.Second, "east")
	if len(s.Callers) != 1 || s.Callers[0] != "spiffe://cluster.local/ns/strict/sa/client" {
		t.Errorf("the server saw callers %v", s.Callers)
	}
	mesh.East.Ready(t, ns, "app=echo", 1) // its probes still pass
}
