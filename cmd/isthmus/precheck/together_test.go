package precheck

import (
	"strings"
	"testing"
)

// What is wrong with two clusters only because of each other.
func TestTogether(t *testing.T) {
	east := facts{context: "east", name: "east", network: "east", uid: "1", podCIDRs: []string{"10.10.0.0/16"}}
	tests := []struct {
		name  string
		west  facts
		state State
		text  string // in the only finding; empty for none
	}{
		{"well", facts{context: "west", name: "west", network: "west", uid: "2", podCIDRs: []string{"10.20.0.0/16"}}, OK, ""},
		{"the same cluster", facts{context: "west", name: "west", uid: "1"}, Bad, "the same cluster"},
		{"the same name", facts{context: "west", name: "east", network: "west", uid: "2"}, Bad, `both are called "east"`},
		{"overlap on one network", facts{context: "west", name: "west", network: "east", uid: "2", podCIDRs: []string{"10.10.128.0/17"}}, Bad, "overlap on one network"},
		{"overlap on two", facts{context: "west", name: "west", network: "west", uid: "2", podCIDRs: []string{"10.10.128.0/17"}}, OK, "fine on two networks"},
		{"no DNS label", facts{context: "west", name: "admin@west", network: "w", uid: "2"}, Bad, "not a DNS label"},
		{"not reached", facts{context: "west"}, OK, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := together([]facts{east, tt.west})
			if tt.text == "" {
				if len(got) != 0 {
					t.Errorf("findings %+v", got)
				}
				return
			}
			if len(got) != 1 || got[0].State != tt.state || !strings.Contains(got[0].Message, tt.text) {
				t.Errorf("findings %+v", got)
			}
			if tt.state == Bad && got[0].Next == "" {
				t.Error("no next step")
			}
		})
	}
}
