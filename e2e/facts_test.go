//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// facts are what the report tells about a run beside its tests: see e2e/report.
type facts struct {
	Ground   string           `json:"ground"`
	Topology string           `json:"topology"`
	Start    []step           `json:"start"`            // and other installations, in order
	Memory   map[string]int64 `json:"memory,omitempty"` // by node, in bytes, with the mesh installed, after the last test
}

type step struct {
	What    string  `json:"what"`
	Seconds float64 `json:"seconds"`
}

func newFacts(s settings) facts { return facts{Ground: s.ground, Topology: s.topology} }

// Tell writes the facts to the file that the environment names, if any.
func (m *Mesh) Tell() {
	if m.settings.facts == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var err error
	if m.facts.Memory, err = m.ground.memory(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "memory of the nodes:", err)
	}
	data, err := json.Marshal(m.facts)
	if err == nil {
		err = os.WriteFile(m.settings.facts, data, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "facts for the report:", err)
	}
}
