package api

import (
	"errors"
	"strings"
	"testing"
)

func TestParsePortRange(t *testing.T) {
	for text, want := range map[string]PortRange{
		"20000-29999": {20000, 29999}, "1024-1024": {1024, 1024}, "1024-14999": {1024, 14999}, "15100-15443": {15100, 15443}, "15445-65535": {15445, 65535},
	} {
		got, err := ParsePortRange(text)
		if err != nil || got != want || got.String() != text || got.IsZero() || !got.Contains(want.First) || !got.Contains(want.Last) || got.Contains(want.First-1) || got.Contains(want.Last+1) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	const form = "not of the form"
	for text, why := range map[string]string{
		"": form, "20000": form, "20000-": form, "-29999": form, "20000-29999-30000": form, "a-b": form, "20000-65536": form, "+20000-29999": form,
		"20000 - 29999": form, " 20000-29999": form, "20000-29999,30000-30001": form, "0x10-0x20": form,
		"29999-20000": "ascending", "0-65535": "within 1024-65535", "80-29999": "within 1024-65535", "1023-2000": "within 1024-65535",
		"15000-15100": "15000 to 15099", "15099-15099": "15000 to 15099", "14000-15000": "15000 to 15099", "1024-65535": "the proxy's own", "15400-15500": "port 15444",
	} {
		if got, err := ParsePortRange(text); !errors.Is(err, ErrPortRange) || !got.IsZero() || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, %v, want %q", text, got, err, why)
		}
	}
	if (PortRange{}).Contains(0) || !(PortRange{}).IsZero() {
		t.Error("the zero range holds a port")
	}
}

// What is accepted comes back the same, and holds none of the proxy's own ports.
func FuzzParsePortRange(f *testing.F) {
	for _, seed := range []string{"20000-29999", "1-2", "-", "65535-65535", "20000-29999-", "٢٠٠٠٠-29999", "020000-29999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParsePortRange(text)
		if err != nil {
			if !r.IsZero() {
				t.Errorf("%q: %v with %v", text, r, err)
			}
			return
		}
		again, err := ParsePortRange(r.String())
		if err != nil || again != r || r.First > r.Last || r.First < minEntryPort {
			t.Errorf("%q is %v, then %v, %v", text, r, again, err)
		}
		for _, own := range []uint16{PortAdmin, PortOutbound, PortInbound, PortDiscovery, PortHealth, PortProxyMetrics, PortEntry} {
			if r.Contains(own) {
				t.Errorf("%q holds %d", text, own)
			}
		}
	})
}
