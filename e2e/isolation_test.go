//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// The two networks share no route: a pod of east cannot reach a pod of west by its
// address, with a sidecar or without.
func TestPodsOfTheOtherNetworkAreOutOfReach(t *testing.T) {
	mesh.Needs(t, SeparateNetworks)
	t.Parallel()
	const ns = "isolation"
	caller := exportedEcho(t, ns, mesh.West)
	caller.Reaches(t, "http://echo."+ns+".svc.clusterset.local", time.Minute, "west")
	mesh.East.Namespace(t, ns+"-bare", false)
	bare := NewCaller(t, mesh.East, ns+"-bare")
	ip := mesh.West.Ready(t, ns, "app=echo", 1)[0].Status.PodIP

	for name, from := range map[string]*Caller{"with a sidecar": caller, "without": bare} {
		t.Run(name, func(t *testing.T) {
			s, err := from.Call(t.Context(), "http://"+ip+":8080", 2)
			if err != nil || s.OK > 0 {
				t.Errorf("%d of %d were answered: %v", s.OK, s.Requests, err)
			}
		})
	}
	t.Run("it is only the route that is missing", func(t *testing.T) {
		mesh.West.Namespace(t, ns+"-near", true)
		near := NewCaller(t, mesh.West, ns+"-near")
		s := near.Reaches(t, "http://"+ip+":8080", 30*time.Second, "west")
		if strings.Join(s.Callers, "") != "" {
			t.Errorf("a call by address carried the identity %v", s.Callers)
		}
	})
}
