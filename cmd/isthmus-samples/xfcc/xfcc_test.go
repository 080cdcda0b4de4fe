package xfcc

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	tests := []struct {
		name, in string
		want     []Element
	}{
		{"empty", " ", nil},
		{
			"isthmus",
			"By=spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews;Hash=ab;URI=spiffe://cluster.local/ns/bookinfo/sa/bookinfo-productpage;DNS=east.clusters.isthmus.internal",
			[]Element{{
				By: []string{"spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews"}, Hash: "ab",
				URI: []string{"spiffe://cluster.local/ns/bookinfo/sa/bookinfo-productpage"}, DNS: []string{"east.clusters.isthmus.internal"},
			}},
		},
		{"quoted separators", `Subject="CN=a,O=\"b\";x";uri=u`, []Element{{Subject: `CN=a,O="b";x`, URI: []string{"u"}}}},
		{"two elements", "URI=a,URI=b", []Element{{URI: []string{"a"}}, {URI: []string{"b"}}}},
		{"empty subject", `Subject="";URI=a`, []Element{{URI: []string{"a"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, in := range []string{"nothing", `Subject="open`, ";", ",", strings.Repeat("a=b;", MaxLength)} {
		if _, err := Parse(in); !errors.Is(err, ErrMalformed) {
			t.Errorf("Parse(%.20q) = %v, want ErrMalformed", in, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`By=a;Hash=b;Subject="CN=\"x\"";URI=c;DNS=d,URI=e`)
	f.Add(`"`)
	f.Add(`a="\`)
	f.Fuzz(func(t *testing.T, in string) {
		elements, err := Parse(in)
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("error of another kind: %v", err)
		}
		if err != nil && elements != nil {
			t.Fatal("elements beside an error")
		}
	})
}
