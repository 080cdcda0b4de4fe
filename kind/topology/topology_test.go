package topology

import (
	"strings"
	"testing"
)

const configs = "../../kind-configs"

// Each file of kind-configs can be brought up, and the five are there.
func TestFiles(t *testing.T) {
	names, err := Names(configs)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"multi-primary", "multi-primary-one-network", "primary-remote", "primary-remote-one-network", "three"}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("topologies %v, want %v", names, want)
	}
	for _, name := range names {
		if _, err := Read(configs, name); err != nil {
			t.Error(err)
		}
	}
}

func TestThree(t *testing.T) {
	three, err := Read(configs, "three")
	if err != nil {
		t.Fatal(err)
	}
	east, west, north := three.Clusters[0], three.Clusters[1], three.Clusters[2]
	if !east.IsPrimary() || west.IsPrimary() || !north.IsPrimary() {
		t.Errorf("primaries: %v", three.Clusters)
	}
	if n := three.Neighbours(east); len(n) != 1 || n[0].Name != "west" || len(three.Neighbours(north)) != 0 {
		t.Errorf("neighbours of east: %v, of north: %v", n, three.Neighbours(north))
	}
	if s := three.Strangers(west); len(s) != 1 || s[0].Name != "north" || len(three.Strangers(north)) != 2 {
		t.Errorf("strangers of west: %v, of north: %v", s, three.Strangers(north))
	}
	three.Clusters[2].Pods = west.Pods // allowed: another network
	if s := three.Strangers(west); len(s) != 0 {
		t.Errorf("an address range of west's own is shut: %v", s)
	}
}

func TestRefused(t *testing.T) {
	const east = "{name: east, network: lan, primary: east, pods: 10.10.0.0/16, services: 10.11.0.0/16}"
	for text, want := range map[string]string{
		"{}":                                     "no clusters",
		"clusters: [" + east + ", " + east + "]": "given twice",
		"clusters: [" + strings.Replace(east, "primary: east", "primary: west", 1) + "]":                                                           "is no primary",
		"clusters: [" + strings.Replace(east, "10.11.0.0/16", "10.10.128.0/17", 1) + "]":                                                           "overlap",
		"clusters: [" + strings.Replace(east, "10.10.0.0/16", "10.10.1.0/16", 1) + "]":                                                             "no IPv4 range",
		"clusters: [" + strings.Replace(east, "name: east", "name: East", 1) + "]":                                                                 "DNS label",
		"clusters: [" + strings.Replace(east, "network:", "netwrok:", 1) + "]":                                                                     "unknown field",
		"clusters: [" + east + ", " + strings.Replace(strings.Replace(east, "name: east", "name: w", 1), "10.10.0.0/16", "10.10.64.0/18", 1) + "]": "clusters east and w",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngave %v, want an error with %q", text, err, want)
		}
	}
	if _, err := Read(configs, "ring"); err == nil || !strings.Contains(err.Error(), "there are multi-primary,") {
		t.Errorf("an unknown name: %v", err)
	}
}

// Whatever is in a file, what Parse takes can be brought up: ranges are valid and every primary is one.
func FuzzParse(f *testing.F) {
	f.Add([]byte("clusters: [{name: east, network: lan, primary: east, pods: 10.10.0.0/16, services: 10.11.0.0/16}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := Parse(data)
		if err != nil {
			return
		}
		for _, c := range parsed.Clusters {
			if !c.Pods.IsValid() || !c.Services.IsValid() || c.Name == "" || c.Network == "" || c.Primary == "" {
				t.Errorf("%+v", c)
			}
		}
	})
}
