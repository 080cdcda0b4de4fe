package federation

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseDrain(t *testing.T) {
	at := time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	for text, want := range map[string]Drain{
		"draining":                            {Stage: Draining},
		"drained":                             {Stage: Drained},
		"returning=1":                         {Stage: Returning, Share: 1},
		"draining,since=2026-01-02T15:04:05Z": {Stage: Draining, Since: at},
		"returning=99,since=2026-01-02T15:04:05Z": {Stage: Returning, Share: 99, Since: at},
	} {
		got, err := ParseDrain(text)
		if err != nil || *got != want || got.String() != text || got.ShareOf() != want.Share {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	if got, err := ParseDrain("drained,since=2026-01-02T17:04:05.6+02:00"); err != nil || !got.Since.Equal(at) || got.String() != "drained,since=2026-01-02T15:04:05Z" {
		t.Errorf("another form of the time: %v, %v", got, err)
	}
	if got, err := ParseDrain(""); got != nil || err != nil || got.ShareOf() != 100 || got.String() != "" {
		t.Errorf("nothing: %v, %v", got, err)
	}
	for _, text := range []string{
		"true", "yes", "Draining", "draining=5", "drained=0", "returning", "returning=", "returning=0", "returning=100", "returning=-1", "returning=+5", "returning=5%",
		"returning=300", "draining,", "draining,since=", "draining,since=yesterday", "draining,2026-01-02T15:04:05Z", "draining,since=2026-01-02T15:04:05Z,x", " draining",
		strings.Repeat("x", 1<<20),
	} {
		got, err := ParseDrain(text)
		if !errors.Is(err, ErrDrain) || got != nil || len(err.Error()) > 200 {
			t.Errorf("%.40q: %v, %v", text, got, err)
		}
	}
}

func TestLowerDrain(t *testing.T) {
	none, full, half := (*Drain)(nil), &Drain{Stage: Draining}, &Drain{Stage: Returning, Share: 50}
	for _, tt := range []struct{ a, b, want *Drain }{
		{none, none, none}, {none, half, half}, {half, none, half}, {full, half, full}, {half, full, full}, {half, half, half},
	} {
		if got := tt.a.Lower(tt.b); got != tt.want {
			t.Errorf("%v, %v: %v", tt.a, tt.b, got)
		}
	}
}

// What is read is written the same, whatever it is.
func FuzzParseDrain(f *testing.F) {
	for _, seed := range []string{"draining", "drained,since=2026-01-02T15:04:05Z", "returning=25,since=2026-01-02T15:04:05+07:00", "returning=٣"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDrain(text)
		if err != nil || d == nil {
			return
		}
		again, err := ParseDrain(d.String())
		if err != nil || again.String() != d.String() || d.ShareOf() < 0 || d.ShareOf() > 99 {
			t.Errorf("%q is %q, then %v, %v", text, d, again, err)
		}
	})
}
