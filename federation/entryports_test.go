package federation

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseEntryPorts(t *testing.T) {
	got, err := ParseEntryPorts("9090=20002,9080=20001")
	want := []EntryPort{{Service: 9080, Port: 20001}, {Service: 9090, Port: 20002}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	for _, text := range []string{"", "80", "80=", "=80", "0=80", "80=0", "80=65536", "80=1,", "80=1,80=2", "80=1,81=1", "80=1 ", "+80=1", "80=1=2", strings.Repeat("1=1,", 300)} {
		if got, err := ParseEntryPorts(text); err == nil {
			t.Errorf("%q gives %v", text, got)
		}
	}
}

func FuzzParseEntryPorts(f *testing.F) {
	f.Add("9080=20001,9090=20002")
	f.Fuzz(func(t *testing.T, text string) {
		ports, err := ParseEntryPorts(text)
		if err != nil {
			return
		}
		var again []string
		for _, p := range ports {
			if p.Service == 0 || p.Port == 0 || p.Cluster != "" {
				t.Fatalf("%+v", p)
			}
			again = append(again, fmt.Sprintf("%d=%d", p.Service, p.Port))
		}
		if back, err := ParseEntryPorts(strings.Join(again, ",")); err != nil || !cmp.Equal(back, ports) {
			t.Fatalf("%v is not %v: %v", back, ports, err)
		}
	})
}
