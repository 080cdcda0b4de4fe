//go:build e2e

package e2e

import (
	"slices"
	"testing"
	"time"
)

// Pods of every cluster call a service of every other by name, through a gateway or directly as their networks have it,
// and the callee is told who called.
func TestEveryClusterCallsEveryOther(t *testing.T) {
	t.Parallel()
	callers := map[string][]*Caller{} // by the cluster that they call
	for _, to := range mesh.All() {
		ns := "pairs-" + to.Name
		for _, c := range mesh.All() {
			c.Namespace(t, ns, true)
		}
		to.Apply(t, ns, echoFile)
		to.ApplyYAML(t, ns, exportOf("echo"))
		for _, from := range mesh.All() {
			if from != to {
				callers[to.Name] = append(callers[to.Name], NewCaller(t, from, ns))
			}
		}
	}
	for _, to := range mesh.All() {
		ns := "pairs-" + to.Name
		for _, caller := range callers[to.Name] {
			t.Run(caller.cluster.Name+" calls "+to.Name, func(t *testing.T) {
				s := caller.Reaches(t, "http://echo."+ns+".svc.clusterset.local", time.Minute, to.Name)
				if want := []string{"spiffe://cluster.local/ns/" + ns + "/sa/client"}; !slices.Equal(s.Callers, want) {
					t.Errorf("the server saw callers %v, want %v", s.Callers, want)
				}
			})
		}
	}
}
