//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"
)

// A Need is something that a test cannot do without; it returns what is missing, or "".
type Need func(*Mesh) (missing string)

// Needs skips the test where the ground or the topology lacks something, and says what.
func (m *Mesh) Needs(t *testing.T, needs ...Need) {
	t.Helper()
	var missing []string
	for _, need := range needs {
		if what := need(m); what != "" {
			missing = append(missing, what)
		}
	}
	if len(missing) > 0 {
		t.Skip(strings.Join(missing, "; "))
	}
}

// ThirdCluster: the test uses mesh.North.
func ThirdCluster(m *Mesh) string { return unless(m.North != nil, "there is no third cluster") }

// SeparateNetworks: between east and west are gateways.
func SeparateNetworks(m *Mesh) string {
	return unless(m.East.Network != m.West.Network, "east and west are on one network, so no gateway is between them")
}

// WestIsPrimary: west has a control plane of its own.
func WestIsPrimary(m *Mesh) string {
	return unless(m.West.IsPrimary(), "west is a remote, which has no control plane")
}

// WestIsRemote: another cluster's control plane serves west.
func WestIsRemote(m *Mesh) string {
	return unless(!m.West.IsPrimary(), "west has a control plane of its own")
}

// NorthIsPrimary: so has north.
func NorthIsPrimary(m *Mesh) string {
	return unless(m.North != nil && m.North.IsPrimary(), "north has no control plane")
}

// Root: the test kills processes in nodes.
func Root(*Mesh) string { return unless(os.Getuid() == 0, "only root sees the nodes' processes") }

// MemoryLimits: the kernel keeps containers to theirs.
func MemoryLimits(m *Mesh) string {
	return unless(m.settings.ground == "kind", "the sandbox has no memory limits")
}

// Time: the test is in the full suite only, because what it proves does not depend on what a ground has that the
// sandbox lacks.
func Time(m *Mesh) string {
	return unless(m.settings.full, "not in the short suite: ISTHMUS_E2E_FULL=1 runs it, e2e-sandbox always")
}

func unless(ok bool, missing string) string {
	if ok {
		return ""
	}
	return missing
}
