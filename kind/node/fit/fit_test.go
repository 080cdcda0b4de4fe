package fit

import (
	"encoding/json"
	"testing"
)

const resource = "CAP_SYS_RESOURCE"

func TestMissingFrom(t *testing.T) {
	all, err := MissingFrom("Name:\tx\nCapBnd:\t000001ffffffffff\n")
	if err != nil || len(all) != 0 {
		t.Errorf("a full set lacks %v (%v)", all, err)
	}
	some, err := MissingFrom("CapBnd:\t000001fffeffffff\n")
	if err != nil || len(some) != 1 || !some[resource] {
		t.Errorf("lacks %v (%v), want %s", some, err, resource)
	}
	if _, err := MissingFrom("Name:\tx\n"); err == nil {
		t.Error("no error where the line is not there")
	}
}

// What the host does not hold goes, what we do not know stays.
func TestDocument(t *testing.T) {
	host := Host{Missing: map[string]bool{resource: true}, OOMScore: -10, HardMax: func(string) (uint64, bool) { return 1024, true }}
	in := `{"ociVersion":"1.0","big":12345678901234567890,"process":{"oomScoreAdj":-998,"rlimits":[{"type":"RLIMIT_NOFILE","hard":4096,"soft":512}],
		"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"],"ambient":[]}}}`
	out, err := host.Document([]byte(in), "process")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"big":12345678901234567890,"ociVersion":"1.0","process":{"capabilities":{"ambient":[],"bounding":["CAP_CHOWN"]},"oomScoreAdj":-10,"rlimits":[{"hard":1024,"soft":512,"type":"RLIMIT_NOFILE"}]}}`
	if string(out) != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	if again, err := host.Document(out, "process"); err != nil || again != nil {
		t.Errorf("fitted twice it changes again: %s (%v)", again, err)
	}
}

// A host that lacks nothing changes nothing, and an exec's document is the process itself.
func TestDocumentOfOthers(t *testing.T) {
	in := `{"oomScoreAdj":-998,"capabilities":{"bounding":["CAP_SYS_RESOURCE"]}}`
	if out, err := (Host{OOMScore: 5}).Document([]byte(in), ""); err != nil || out != nil {
		t.Errorf("changed by a host that lacks nothing: %s (%v)", out, err)
	}
	out, err := Host{Missing: map[string]bool{resource: true}, OOMScore: -998}.Document([]byte(in), "")
	if err != nil || !json.Valid(out) || string(out) != `{"capabilities":{"bounding":[]},"oomScoreAdj":-998}` {
		t.Errorf("exec: %s (%v)", out, err)
	}
}

func TestTarget(t *testing.T) {
	for _, c := range []struct {
		args     []string
		file, at string
	}{
		{[]string{"--root", "/run/x", "--log=/l", "create", "--bundle", "/b", "--pid-file", "/p", "id"}, "/b/config.json", "process"},
		{[]string{"--systemd-cgroup", "run", "-b", "/b", "id"}, "/b/config.json", "process"},
		{[]string{"create", "id"}, "config.json", "process"},
		{[]string{"exec", "--process", "/tmp/p", "--detach", "id"}, "/tmp/p", ""},
		{[]string{"exec", "id", "sh"}, "", ""},
		{[]string{"--root", "/run/x", "delete", "id"}, "", ""},
		{nil, "", ""},
	} {
		if file, at := Target(c.args); file != c.file || at != c.at {
			t.Errorf("Target(%v) = %q, %q; want %q, %q", c.args, file, at, c.file, c.at)
		}
	}
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte(`{"process":{"capabilities":{"bounding":["CAP_SYS_RESOURCE"]},"rlimits":[{"type":"RLIMIT_NOFILE","hard":9}],"oomScoreAdj":-1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		host := Host{Missing: map[string]bool{resource: true}, HardMax: func(string) (uint64, bool) { return 1, true }}
		out, err := host.Document(data, "process")
		if err == nil && out != nil && !json.Valid(out) {
			t.Errorf("not JSON any more: %s", out)
		}
	})
}
