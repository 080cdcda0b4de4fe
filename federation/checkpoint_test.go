package federation

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/isthmus-mesh/isthmus/trust"
)

func checkpointExample(t testing.TB) Checkpoint {
	t.Helper()
	id, err := trust.ParseID("spiffe://cluster.local/ns/shop/sa/reviews")
	if err != nil {
		t.Fatal(err)
	}
	return Checkpoint{
		Network:       "west",
		Gateways:      []string{"192.0.2.7:15443", "[2001:db8::7]:15443", "gw.example:15443"},
		ExportedSince: time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC),
		Ports:         []Port{{"http", 9080, ProtocolHTTP}, {"", 9090, ProtocolAuto}},
		Ready:         []CheckpointCount{{9080, Locality{"r1", "z1"}, 2}, {9080, Locality{}, 1}},
		Accounts:      []trust.ID{id},
		Plaintext:     []netip.Addr{netip.MustParseAddr("10.1.0.9")},
	}
}

var compareIDs = cmp.Options{
	cmp.Comparer(func(a, b trust.ID) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

func TestCheckpointComesBackAsItWas(t *testing.T) {
	want := checkpointExample(t)
	text, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseCheckpoint(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareIDs, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestParseCheckpointRefuses(t *testing.T) {
	good, err := checkpointExample(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":          "",
		"no object":        "[]",
		"no time":          `{"network":"west"}`,
		"unknown field":    strings.Replace(good, `"network"`, `"server":"x","network"`, 1),
		"text behind":      good + "{}",
		"port 0":           strings.Replace(good, `"number":9080`, `"number":0`, 1),
		"port 65536":       strings.Replace(good, `"number":9080`, `"number":65536`, 1),
		"unknown protocol": strings.Replace(good, `"protocol":"http"`, `"protocol":"quic"`, 1),
		"negative count":   strings.Replace(good, `"count":2`, `"count":-2`, 1),
		"gateway no port":  strings.Replace(good, `192.0.2.7:15443`, `192.0.2.7`, 1),
		"gateway port 0":   strings.Replace(good, `192.0.2.7:15443`, `192.0.2.7:0`, 1),
		"bad account":      strings.Replace(good, `/sa/reviews`, `/sa/../x`, 1),
		"too long":         good + strings.Repeat(" ", MaxCheckpointBytes),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseCheckpoint(text); !errors.Is(err, ErrCheckpoint) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func FuzzParseCheckpoint(f *testing.F) {
	good, _ := checkpointExample(f).Encode()
	f.Add(good)
	f.Add(`{"exportedSince":"2026-11-21T02:00:00Z","ready":[{"port":1,"count":1}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCheckpoint(text)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil {
			return // grew beyond the limit by escaping
		}
		if _, err := ParseCheckpoint(again); err != nil {
			t.Errorf("own encoding refused: %v", err)
		}
	})
}
