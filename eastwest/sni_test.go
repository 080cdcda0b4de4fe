package eastwest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/eastwest"
)

func TestSNI(t *testing.T) {
	long := strings.Repeat("a", 63)
	tests := []struct {
		name eastwest.Name
		want string
		err  error
	}{
		{name: eastwest.Name{Namespace: "shop", Service: "reviews", Port: 9080}, want: "p9080.reviews.shop.sni.isthmus.internal"},
		{name: eastwest.Name{Namespace: "shop", Service: "reviews", Port: 9080, Subset: "v2"}, want: "v2.subset.p9080.reviews.shop.sni.isthmus.internal"},
		{name: eastwest.Name{Namespace: "db", Service: "pg", Port: 1, Pod: "pg-0", Cluster: "west"}, want: "pg-0.west.pod.p1.pg.db.sni.isthmus.internal"},
		{name: eastwest.Name{Namespace: "pod", Service: "subset", Port: 65535, Subset: "pod", Pod: "subset", Cluster: "pod"}, want: "subset.pod.pod.pod.subset.p65535.subset.pod.sni.isthmus.internal"},
		{name: eastwest.Name{Namespace: long, Service: long, Port: 65535, Subset: long, Pod: long, Cluster: long}, err: eastwest.ErrNameTooLong},
		{name: eastwest.Name{Namespace: long, Service: long, Port: 1, Pod: long, Cluster: long}, err: eastwest.ErrNameTooLong},
		{name: eastwest.Name{Namespace: "shop", Service: "db", Port: 1, Pod: "db-0"}, err: eastwest.ErrInvalidName},
		{name: eastwest.Name{Namespace: "shop", Service: "db", Port: 1, Cluster: "west"}, err: eastwest.ErrInvalidName},
		{name: eastwest.Name{Namespace: "shop", Service: "db", Port: 1, Pod: "db.0", Cluster: "west"}, err: eastwest.ErrInvalidName},
		{name: eastwest.Name{Namespace: "shop", Service: long + "a", Port: 1}, err: eastwest.ErrNameTooLong},
		{name: eastwest.Name{Namespace: "shop", Service: "reviews"}, err: eastwest.ErrInvalidName},
		{name: eastwest.Name{Namespace: "shop", Service: "Reviews", Port: 1}, err: eastwest.ErrInvalidName},
		{name: eastwest.Name{Namespace: "", Service: "reviews", Port: 1}, err: eastwest.ErrInvalidName},
		{name: eastwest.Name{Namespace: "shop", Service: "re.views", Port: 1}, err: eastwest.ErrInvalidName},
		{name: eastwest.Name{Namespace: "shop", Service: "reviews-", Port: 1}, err: eastwest.ErrInvalidName},
	}
	for _, tt := range tests {
		got, err := tt.name.SNI()
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("SNI(%+v) = %q, %v; want %q, %v", tt.name, got, err, tt.want, tt.err)
		}
		if err != nil {
			continue
		}
		if back, err := eastwest.ParseSNI(strings.ToUpper(got)); back != tt.name || err != nil {
			t.Errorf("ParseSNI(%q) = %+v, %v", got, back, err)
		}
	}
}

func TestParseSNIRefuses(t *testing.T) {
	for _, s := range []string{
		"", ".", "sni.isthmus.internal", ".sni.isthmus.internal", "probe.sni.isthmus.internal",
		"p80.a.b.sni.isthmus.internal.", "p080.a.b.sni.isthmus.internal", "p0.a.b.sni.isthmus.internal", "p70000.a.b.sni.isthmus.internal",
		"80.a.b.sni.isthmus.internal", "p80..b.sni.isthmus.internal", "p80.a.b.c.sni.isthmus.internal", "x.p80.a.b.sni.isthmus.internal",
		"db-0.pod.p80.a.b.sni.isthmus.internal", "a.b.c.pod.p80.a.b.sni.isthmus.internal", ".west.pod.p80.a.b.sni.isthmus.internal", "a..pod.p80.a.b.sni.isthmus.internal",
		"v1.subset.x.west.pod.p80.a.b.sni.isthmus.internal", "*.sni.isthmus.internal", "p80.a.b.evil.com", "p80.a.b.\u212Ani.isthmus.internal",
		"xds-grpc", "10.0.0.1", "p+80.a.b.sni.isthmus.internal", strings.Repeat("a.", 200) + "sni.isthmus.internal",
	} {
		if got, err := eastwest.ParseSNI(s); err == nil {
			t.Errorf("ParseSNI(%q) = %+v", s, got)
		}
	}
}

// Whatever parses has one canonical form, and is that.
func FuzzParseSNI(f *testing.F) {
	f.Add("p9080.reviews.shop.sni.isthmus.internal")
	f.Add("PG-0.west.pod.v1.subset.p1.pg.db.sni.isthmus.internal")
	f.Add("p1..sni.isthmus.internal")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := eastwest.ParseSNI(s)
		if err != nil {
			if !errors.Is(err, eastwest.ErrInvalidName) && !errors.Is(err, eastwest.ErrNameTooLong) {
				t.Errorf("error of no kind: %v", err)
			}
			return
		}
		again, err := n.SNI()
		if err != nil || again != strings.ToLower(s) || len(again) > eastwest.MaxNameLength {
			t.Errorf("%q parses to %+v, whose name is %q, %v", s, n, again, err)
		}
	})
}
