package intercept

import (
	"slices"
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

func FuzzParse(f *testing.F) {
	f.Add("80,443")
	f.Add("10.0.0.0/8,fd00::/8")
	f.Add("::ffff:1.2.3.4/120")
	f.Fuzz(func(t *testing.T, s string) {
		ports, _ := ParsePorts(s)
		cidrs, _ := ParseCIDRs(s)
		if len(rules(Options{ExcludeInboundPorts: ports, ExcludeOutboundCIDRs: cidrs})) == 0 {
			t.Fatal("no rules")
		}
	})
}
