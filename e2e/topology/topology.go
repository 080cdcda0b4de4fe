// Package topology reads kind-configs/ as the end-to-end tests need it, and says which installations give a topology.
package topology

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"
)

// A Member is a cluster as a topology describes it.
type Member struct {
	Name    string `json:"name"`
	Network string `json:"network"` // members of one network reach one another's pods
	Primary string `json:"primary"` // whose control plane serves it; its own name makes it a primary
}

// IsPrimary reports whether the cluster has a control plane of its own.
func (m Member) IsPrimary() bool { return m.Primary == m.Name }

// A Topology is what the tests run on: east and west always, and at most one more.
type Topology struct {
	Name     string   `json:"-"`
	Clusters []Member `json:"clusters"`
}

// ThreePrimaries is what the sandbox has unless told otherwise: most tests need no more, and none less.
const ThreePrimaries = "three-primaries"

// Read reads DIR/NAME.yaml, or returns ThreePrimaries.
func Read(dir, name string) (Topology, error) {
	if name == ThreePrimaries {
		return Topology{name, []Member{{"east", "east", "east"}, {"west", "west", "west"}, {"north", "north", "north"}}}, nil
	}
	data, err := os.ReadFile(filepath.Join(dir, name+".yaml"))
	if err != nil {
		return Topology{}, fmt.Errorf("TOPOLOGY=%s: %w", name, err)
	}
	t := Topology{Name: name}
	if err := yaml.Unmarshal(data, &t); err != nil {
		return Topology{}, fmt.Errorf("TOPOLOGY=%s: %w", name, err)
	}
	for _, need := range []string{"east", "west"} {
		if !slices.Contains(t.Names(), need) {
			return Topology{}, fmt.Errorf("TOPOLOGY=%s: the tests call from east to west, and it has %v", name, t.Names())
		}
	}
	return t, nil
}

// Names lists the clusters.
func (t Topology) Names() []string {
	var out []string
	for _, c := range t.Clusters {
		out = append(out, c.Name)
	}
	return out
}

// primaries lists the clusters that have a control plane.
func (t Topology) primaries() []string {
	var out []string
	for _, c := range t.Clusters {
		if c.IsPrimary() {
			out = append(out, c.Name)
		}
	}
	return out
}

// remotes lists the clusters that a primary serves.
func (t Topology) remotes(primary string) []string {
	var out []string
	for _, c := range t.Clusters {
		if c.Primary == primary && !c.IsPrimary() {
			out = append(out, c.Name)
		}
	}
	return out
}

// Installations are the arguments of isthmus install that give the topology: one command where it has one
// primary or only primaries, else the primaries first and then each one's remotes.
func (t Topology) Installations() [][]string {
	primaries := t.primaries()
	if len(primaries) == 1 && len(t.Clusters) > 1 {
		return [][]string{slices.Concat(primaries, t.remotes(primaries[0]), []string{"--topology", "primary-remote"}, t.networks(t.Names()))}
	}
	out := [][]string{slices.Concat(primaries, t.networks(primaries))}
	for _, p := range primaries {
		if remotes := t.remotes(p); len(remotes) > 0 {
			out = append(out, slices.Concat(remotes, []string{"--primary", p}, t.networks(remotes)))
		}
	}
	return out
}

// Installation are the arguments that install one cluster again.
func (t Topology) Installation(name string) []string {
	args := []string{name}
	for _, c := range t.Clusters {
		if c.Name == name && !c.IsPrimary() {
			args = append(args, "--primary", c.Primary)
		}
	}
	return append(args, t.networks([]string{name})...)
}

// networks is the flag that names the networks of those clusters whose network is not their name.
func (t Topology) networks(of []string) []string {
	var out []string
	for _, c := range t.Clusters {
		if slices.Contains(of, c.Name) && c.Network != c.Name {
			out = append(out, "--network", c.Name+"="+c.Network)
		}
	}
	return out
}
