package server_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/primary/server"
)

// The default is one that is taken.
func TestDefaultEntryPorts(t *testing.T) {
	if r, err := api.ParsePortRange(server.DefaultEntryPorts); err != nil || r.String() != server.DefaultEntryPorts {
		t.Errorf("%v, %v", r, err)
	}
}

func TestParseSyntheticRange(t *testing.T) {
	for text, wrong := range map[string]string{
		server.DefaultSyntheticRange: "", "10.99.0.0/24": "", "240.0.0.0/8": "",
		"": "not an address range", "240.241.0.0": "not an address range", "fd00::/64": "not IPv4",
		"240.241.0.1/16": "is it 240.241.0.0/16?", "240.0.0.0/7": "wrong size", "240.241.0.0/31": "wrong size",
		"127.1.0.0/16": "127.0.0.0/8", "169.254.0.0/16": "a meaning of its own", "255.0.0.0/8": "a meaning of its own", "224.0.0.0/8": "a meaning of its own", "0.0.0.0/8": "a meaning of its own",
	} {
		_, err := server.ParseSyntheticRange(text)
		expect(t, text, err, wrong)
	}
}

func TestParseEntryFrom(t *testing.T) {
	for _, c := range []struct {
		texts []string
		want  string
		wrong string
	}{
		{nil, "", ""},
		{[]string{"10.2.0.0/16", "10.1.0.0/16", "fd00::/64", "10.1.0.0/16"}, "10.1.0.0/16 10.2.0.0/16 fd00::/64", ""},
		{[]string{"10.1.0.0/16", "0.0.0.0/0"}, "", "no open relay"},
		{[]string{"::/0"}, "", "no open relay"},
		{[]string{"10.1.0.3/16"}, "", "is it 10.1.0.0/16?"},
		{[]string{"10.1.0.3"}, "", "not an address range"},
		{[]string{""}, "", "not an address range"},
	} {
		got, err := server.ParseEntryFrom(c.texts)
		expect(t, strings.Join(c.texts, " "), err, c.wrong)
		if err == nil && texts(got) != c.want {
			t.Errorf("%v is read as %v", c.texts, got)
		}
	}
}

// Whatever is given, what is taken is a range that can be used as it is.
func FuzzRanges(f *testing.F) {
	for _, seed := range []string{server.DefaultSyntheticRange, "::ffff:10.0.0.0/104", "fe80::%eth0/64"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := server.ParseSyntheticRange(text); err == nil && (!p.Addr().Is4() || p.Contains(netip.MustParseAddr("127.0.0.1")) || p.Masked() != p) {
			t.Errorf("addresses %q: %s", text, p)
		}
		if from, err := server.ParseEntryFrom([]string{text}); err == nil && (len(from) != 1 || from[0].Bits() < 1 || from[0].Addr().Zone() != "") {
			t.Errorf("callers %q: %v", text, from)
		}
	})
}

func expect(t *testing.T, what string, err error, wrong string) {
	t.Helper()
	switch {
	case err == nil && wrong != "":
		t.Errorf("%q is taken", what)
	case err != nil && (wrong == "" || !strings.Contains(err.Error(), wrong)):
		t.Errorf("%q: error %v, want one of %q", what, err, wrong)
	}
}

func texts(prefixes []netip.Prefix) string {
	var out []string
	for p := range slices.Values(prefixes) {
		out = append(out, p.String())
	}
	return strings.Join(out, " ")
}
