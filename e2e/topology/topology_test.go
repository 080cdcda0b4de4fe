package topology

import (
	"strings"
	"testing"
)

const configs = "../../kind-configs"

// Each topology is given by the installations of its primaries first; one command does it where it can.
func TestInstallations(t *testing.T) {
	for name, want := range map[string]string{
		ThreePrimaries:               "east west north",
		"multi-primary":              "east west",
		"multi-primary-one-network":  "east west --network east=lan --network west=lan",
		"primary-remote":             "east west --topology primary-remote",
		"primary-remote-one-network": "east west --topology primary-remote --network east=lan --network west=lan",
		"three":                      "east north --network east=lan; west --primary east --network west=lan",
	} {
		t.Run(name, func(t *testing.T) {
			top, err := Read(configs, name)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, args := range top.Installations() {
				got = append(got, strings.Join(args, " "))
			}
			if have := strings.Join(got, "; "); have != want {
				t.Errorf("got  %s\nwant %s", have, want)
			}
		})
	}
}

// A cluster is installed again as it was: a remote with its primary.
func TestInstallation(t *testing.T) {
	top, err := Read(configs, "three")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"east":  "east --network east=lan",
		"west":  "west --primary east --network west=lan",
		"north": "north",
	} {
		if got := strings.Join(top.Installation(name), " "); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestUnknown(t *testing.T) {
	if _, err := Read(configs, "nowhere"); err == nil || !strings.Contains(err.Error(), "TOPOLOGY=nowhere") {
		t.Errorf("error %v", err)
	}
}
