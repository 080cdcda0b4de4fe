package intercept

import (
	"slices"
	"strings"
	"testing"
)

func TestParsePorts(t *testing.T) {
	got, err := ParsePorts(" 80, 443,,65535")
	if err != nil || !slices.Equal(got, []uint16{80, 443, 65535}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"0", "65536", "-1", "80-90", "http", "80;81"} {
		if _, err := ParsePorts(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestParseCIDRs(t *testing.T) {
	got, err := ParseCIDRs("10.1.2.3/8, 192.0.2.1,fd00::/8, ::ffff:10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, p := range got {
		text = append(text, p.String())
	}
	if want := []string{"10.0.0.0/8", "192.0.2.1/32", "fd00::/8", "10.0.0.1/32"}; !slices.Equal(text, want) {
		t.Errorf("got %v, want %v", text, want)
	}
	for _, bad := range []string{"10.0.0.0/33", "10.0.0", "*", "example.org"} {
		if _, err := ParseCIDRs(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestParseIDs(t *testing.T) {
	got, err := ParseIDs("0, 1000,4294967294")
	if err != nil || !slices.Equal(got, []uint32{0, 1000, 1<<32 - 2}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"-1", "4294967295", "root", "1-2", strings.Repeat("1,", 257)} {
		if _, err := ParseIDs(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestParseInterfaces(t *testing.T) {
	got, err := ParseInterfaces("net1, br-0.5")
	if err != nil || !slices.Equal(got, []string{"net1", "br-0.5"}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"a/b", "a b", "..", "sixteen-bytes-xx", "é", "a:1"} {
		if _, err := ParseInterfaces(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestParseOnly(t *testing.T) {
	for text, want := range map[string]Only[uint16]{
		"": {}, " * ": {}, "none": {Limited: true}, "80": {Limited: true, List: []uint16{80}},
	} {
		got, err := ParseOnly(text, ParsePorts)
		if err != nil || got.Limited != want.Limited || !slices.Equal(got.List, want.List) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if _, err := ParseOnly("80,*", ParsePorts); err == nil {
		t.Error("a word within a list accepted")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("80,443")
	f.Add("10.0.0.0/8,fd00::/8")
	f.Add("::ffff:1.2.3.4/120")
	f.Add("eth0,4294967294")
	f.Fuzz(func(t *testing.T, s string) {
		var opts Options
		opts.ExcludeInboundPorts, _ = ParsePorts(s)
		opts.ExcludeOutboundCIDRs, _ = ParseCIDRs(s)
		opts.ExcludeUIDs, _ = ParseIDs(s)
		opts.ExcludeInterfaces, _ = ParseInterfaces(s)
		opts.OnlyInboundPorts, _ = ParseOnly(s, ParsePorts)
		opts.OnlyOutboundCIDRs, _ = ParseOnly(s, ParseCIDRs)
		if len(rules(opts)) == 0 {
			t.Fatal("no rules")
		}
	})
}
