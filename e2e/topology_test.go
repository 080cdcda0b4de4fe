//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"
)

// A member is a cluster as a topology describes it.
type member struct {
	Name    string `json:"name"`
	Network string `json:"network"` // members of one network reach one another's pods
	Primary string `json:"primary"` // whose control plane serves it; its own name makes it a primary
}

func (m member) isPrimary() bool { return m.Primary == m.Name }

// A topology is what the tests run on: east and west always, north where there is a third.
type topology struct {
	Name     string   `json:"-"`
	Clusters []member `json:"clusters"`
}

// threePrimaries is what the sandbox has unless told otherwise: most tests need no more, and none less.
const threePrimaries = "three-primaries"

// readTopology reads kind-configs/NAME.yaml.
func readTopology(name string) (topology, error) {
	if name == threePrimaries {
		return topology{name, []member{{"east", "east", "east"}, {"west", "west", "west"}, {"north", "north", "north"}}}, nil
	}
	data, err := os.ReadFile(filepath.Join("../kind-configs", name+".yaml"))
	if err != nil {
		return topology{}, fmt.Errorf("TOPOLOGY=%s: %w", name, err)
	}
	t := topology{Name: name}
	if err := yaml.Unmarshal(data, &t); err != nil {
		return topology{}, fmt.Errorf("TOPOLOGY=%s: %w", name, err)
	}
	for _, need := range []string{"east", "west"} {
		if !slices.Contains(t.names(), need) {
			return topology{}, fmt.Errorf("TOPOLOGY=%s: the tests call from east to west, and it has %v", name, t.names())
		}
	}
	return t, nil
}

func (t topology) names() []string {
	var out []string
	for _, c := range t.Clusters {
		out = append(out, c.Name)
	}
	return out
}

// primaries lists the clusters that have a control plane.
func (t topology) primaries() []string {
	var out []string
	for _, c := range t.Clusters {
		if c.isPrimary() {
			out = append(out, c.Name)
		}
	}
	return out
}

// remotes lists the clusters that a primary serves.
func (t topology) remotes(primary string) []string {
	var out []string
	for _, c := range t.Clusters {
		if c.Primary == primary && !c.isPrimary() {
			out = append(out, c.Name)
		}
	}
	return out
}

// installations are the arguments of isthmus install that give the topology: one command where it has one
// primary or only primaries, else the primaries first and then each one's remotes.
func (t topology) installations() [][]string {
	primaries := t.primaries()
	if len(primaries) == 1 && len(t.Clusters) > 1 {
		return [][]string{slices.Concat(primaries, t.remotes(primaries[0]), []string{"--topology", "primary-remote"}, t.networks(t.names()))}
	}
	out := [][]string{slices.Concat(primaries, t.networks(primaries))}
	for _, p := range primaries {
		if remotes := t.remotes(p); len(remotes) > 0 {
			out = append(out, slices.Concat(remotes, []string{"--primary", p}, t.networks(remotes)))
		}
	}
	return out
}

// installation are the arguments that install one cluster again.
func (t topology) installation(name string) []string {
	args := []string{name}
	for _, c := range t.Clusters {
		if c.Name == name && !c.isPrimary() {
			args = append(args, "--primary", c.Primary)
		}
	}
	return append(args, t.networks([]string{name})...)
}

// networks is the flag that names the networks of those clusters whose network is not their name.
func (t topology) networks(of []string) []string {
	var out []string
	for _, c := range t.Clusters {
		if slices.Contains(of, c.Name) && c.Network != c.Name {
			out = append(out, "--network", c.Name+"="+c.Network)
		}
	}
	return out
}
