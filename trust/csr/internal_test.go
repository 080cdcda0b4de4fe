package csr

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A renewal that came last goes before everybody who waits for a first certificate.
func TestGateOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 10)
		if err := g.enter(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		var order []string
		wait := func(name string, precedence bool) {
			go func() {
				if err := g.enter(t.Context(), precedence); err != nil {
					t.Error(err)
					return
				}
				order = append(order, name) // one place, so one at a time
				g.leave()
			}()
			synctest.Wait()
		}
		wait("new 1", false)
		wait("new 2", false)
		wait("renewal", true)
		g.leave()
		synctest.Wait()
		if got := strings.Join(order, ", "); got != "renewal, new 1, new 2" {
			t.Errorf("order %s", got)
		}
		if g.free != 1 {
			t.Errorf("%d places free, want 1", g.free)
		}
	})
}

func TestGateGiveUpAndFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1, 1)
		if err := g.enter(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		result := make(chan error, 1)
		go func() { result <- g.enter(ctx, false) }()
		synctest.Wait()
		if err := g.enter(t.Context(), false); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("full queue: %v", err)
		}
		if err := <-result; status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("gave up: %v", err)
		}
		g.leave()
		if err := g.enter(t.Context(), true); err != nil {
			t.Errorf("the place was lost: %v", err)
		}
	})
}

func TestLimiterIsBounded(t *testing.T) {
	t.Parallel()
	l := newLimiter(1, 2, 100)
	now := time.Now()
	for i := range 10_000 {
		l.allow(strings.Repeat("a", i%500), now.Add(time.Duration(i)*time.Millisecond))
	}
	if len(l.buckets) > 100 {
		t.Errorf("%d keys remembered, want at most 100", len(l.buckets))
	}
}

// Whatever comes, a request gives a P-256 key with a right signature or an error
// that shows nothing of it.
func FuzzRequestKey(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	good, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a.test"}}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:50])
	f.Add([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, der []byte) {
		key, err := requestKey(der)
		if err != nil {
			if key != nil || !errors.Is(err, errRequest) {
				t.Errorf("key %v, error %v", key, err)
			}
			return
		}
		if key.Curve != elliptic.P256() {
			t.Error("another curve passed")
		}
	})
}

// No token makes tokenCluster panic, and what it returns is a cluster's name.
func FuzzTokenCluster(f *testing.F) {
	f.Add("eyJhbGciOiJub25lIn0.eyJhdWQiOiJpc3RobXVzLmRldi9lYXN0In0.YQ")
	f.Add("eyJhbGciOiJub25lIn0.eyJhdWQiOlsiaXN0aG11cy5kZXYvZWFzdCJdfQ.")
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		cluster, err := tokenCluster(token, time.Unix(0, 0))
		if (err == nil) != (cluster != "") {
			t.Errorf("cluster %q, error %v", cluster, err)
		}
	})
}
