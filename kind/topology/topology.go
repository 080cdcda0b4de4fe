// Package topology reads kind-configs/: which clusters there are, on which
// networks, and which control plane serves each.
package topology

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// A Topology is a set of clusters that can be brought up together.
type Topology struct {
	Name     string    `json:"-"` // the file's
	Clusters []Cluster `json:"clusters"`
}

// A Cluster is one of a Topology.
type Cluster struct {
	Name    string `json:"name"`
	Network string `json:"network"` // clusters of one network reach one another's pods
	// Primary names the cluster whose control plane serves this one; its own name
	// makes it a primary.
	Primary  string       `json:"primary"`
	Pods     netip.Prefix `json:"pods"`
	Services netip.Prefix `json:"services"`
}

// IsPrimary reports whether the cluster runs a control plane.
func (c Cluster) IsPrimary() bool { return c.Primary == c.Name }

// Names lists the topologies in a folder.
func Names(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".yaml")
	}
	slices.Sort(files)
	return files, err
}

// Read reads DIR/NAME.yaml. An unknown name is an error that lists those there are.
func Read(dir, name string) (Topology, error) {
	data, err := os.ReadFile(filepath.Join(dir, filepath.Base(name)+".yaml"))
	if errors.Is(err, os.ErrNotExist) {
		known, _ := Names(dir)
		return Topology{}, fmt.Errorf("no topology %q: there are %s", name, strings.Join(known, ", "))
	}
	if err != nil {
		return Topology{}, err
	}
	t, err := Parse(data)
	if err != nil {
		return Topology{}, fmt.Errorf("topology %s: %w", name, err)
	}
	t.Name = name
	return t, nil
}

// Parse reads a topology and checks that it can be brought up.
func Parse(data []byte) (Topology, error) {
	var t Topology
	if err := yaml.UnmarshalStrict(data, &t); err != nil {
		return Topology{}, err
	}
	if len(t.Clusters) == 0 {
		return Topology{}, errors.New("no clusters")
	}
	return t, t.check()
}

var label = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$`)

func (t Topology) check() error {
	byName := map[string]Cluster{}
	for _, c := range t.Clusters {
		if _, twice := byName[c.Name]; twice {
			return fmt.Errorf("cluster %s: given twice", c.Name)
		}
		byName[c.Name] = c
		if !label.MatchString(c.Name) || !label.MatchString(c.Network) {
			return fmt.Errorf("cluster %q on network %q: both must be DNS labels of at most 32 bytes", c.Name, c.Network)
		}
		for _, r := range []netip.Prefix{c.Pods, c.Services} {
			if !r.IsValid() || !r.Addr().Is4() || r != r.Masked() || r.Bits() > 24 {
				return fmt.Errorf("cluster %s: %q is no IPv4 range of /24 or more", c.Name, r)
			}
		}
	}
	for _, c := range t.Clusters {
		if p, ok := byName[c.Primary]; !ok || !p.IsPrimary() {
			return fmt.Errorf("cluster %s: its primary %q is no primary of this topology", c.Name, c.Primary)
		}
	}
	return t.overlaps()
}

// overlaps refuses ranges of one network that share addresses: a route would be ambiguous.
func (t Topology) overlaps() error {
	for i, a := range t.Clusters {
		if a.Pods.Overlaps(a.Services) {
			return fmt.Errorf("cluster %s: pods %s and services %s overlap", a.Name, a.Pods, a.Services)
		}
		for _, b := range t.Clusters[:i] {
			if a.Network == b.Network && a.Pods.Overlaps(b.Pods) {
				return fmt.Errorf("clusters %s and %s of network %s: pods %s and %s overlap", b.Name, a.Name, a.Network, b.Pods, a.Pods)
			}
		}
	}
	return nil
}

// Neighbours are the other clusters of c's network.
func (t Topology) Neighbours(c Cluster) []Cluster {
	var out []Cluster
	for _, other := range t.Clusters {
		if other.Name != c.Name && other.Network == c.Network {
			out = append(out, other)
		}
	}
	return out
}

// Strangers are the clusters of other networks whose pods' addresses mean
// nothing to c: those that c uses itself are left out, since ranges of different
// networks may overlap.
func (t Topology) Strangers(c Cluster) []Cluster {
	used := []netip.Prefix{c.Pods, c.Services}
	for _, n := range t.Neighbours(c) {
		used = append(used, n.Pods)
	}
	var out []Cluster
	for _, other := range t.Clusters {
		if other.Network != c.Network && !slices.ContainsFunc(used, other.Pods.Overlaps) {
			out = append(out, other)
		}
	}
	return out
}
