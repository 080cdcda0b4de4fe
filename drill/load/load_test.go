package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// collect runs opts and returns its records.
func collect(t *testing.T, ctx context.Context, opts Options) []Record {
	t.Helper()
	var records []Record
	if err := Run(ctx, opts, func(r Record) { records = append(records, r) }); err != nil {
		t.Fatal(err)
	}
	return records
}

func TestRunCountsErrorsByKind(t *testing.T) {
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(HeaderCluster, "east")
		w.Header().Set(HeaderPod, "a")
		switch n.Add(1) {
		case 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 2:
			panic(http.ErrAbortHandler)
		case 3:
			<-r.Context().Done()
		}
	}))
	defer srv.Close()
	s := Summarize(collect(t, t.Context(), Options{URL: srv.URL, Rate: 50, Count: 10, Timeout: 500 * time.Millisecond, NewConnections: true}))
	want := map[string]int{"status-503": 1, KindEOF: 1, KindTimeout: 1}
	if diff := cmp.Diff(want, s.Errors); diff != "" {
		t.Error(diff)
	}
	if s.Requests != 10 || s.OK != 7 || s.Clusters["east"].Fraction != 1 || s.Pods["east/a"].Requests != 7 {
		t.Errorf("summary %+v", s)
	}
}

// The text of a timeout says how far the request came.
func TestTimeoutSaysHowFar(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
		}
	}))
	defer srv.Close()
	full, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for url, want := range map[string]string{
		srv.URL + "/slow":                "on a new connection",
		"http://" + full.Addr().String(): "on a new connection",
		"http://nowhere.invalid":         "while the name was looked up",
	} {
		r := collect(t, t.Context(), Options{URL: url, Count: 1, Timeout: 300 * time.Millisecond})
		if len(r) != 1 || r[0].Kind == "" || !strings.Contains(r[0].Message, want) {
			t.Errorf("%s: %+v, want %q", url, r, want)
		}
	}
}

// A closed port and a name that does not exist are told apart.
func TestRunRefusedAndDNS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for url, want := range map[string]string{
		"http://" + l.Addr().String(): KindRefused,
		"tcp://" + l.Addr().String():  KindRefused,
		"http://nowhere.invalid":      KindDNS,
	} {
		r := collect(t, t.Context(), Options{URL: url, Count: 1, Timeout: 10 * time.Second})
		if len(r) != 1 || r[0].Kind != want {
			t.Errorf("%s: %+v, want %s", url, r, want)
		}
	}
}

// Requests that our own end cuts short are no failures.
func TestRunStopsCleanly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer srv.Close()
	if r := collect(t, ctx, Options{URL: srv.URL, Rate: 100}); len(r) != 0 {
		t.Errorf("records %+v", r)
	}
}

func TestRunRefusesOptions(t *testing.T) {
	for _, opts := range []Options{{}, {URL: "reviews:9080"}, {URL: "ftp://x"}, {URL: "http://x", Rate: -1}, {URL: "http://x", Count: -1}} {
		if err := Run(t.Context(), opts, func(Record) {}); err == nil {
			t.Errorf("%+v was taken", opts)
		}
	}
}

func TestKindOf(t *testing.T) {
	for err, want := range map[error]string{
		nil:                            "",
		context.DeadlineExceeded:       KindTimeout,
		syscall.ECONNRESET:             KindReset,
		syscall.EHOSTUNREACH:           KindUnreachable,
		io.ErrUnexpectedEOF:            KindEOF,
		errors.New("who knows"):        KindOther,
		&net.DNSError{Name: "x"}:       KindDNS,
		grpcError{io.EOF}:              "grpc-unknown",
		fmt.Errorf("x: %w", errAnswer): KindAnswer,
	} {
		if got := KindOf(err); got != want {
			t.Errorf("KindOf(%v) = %q, want %q", err, got, want)
		}
	}
}

func TestLatency(t *testing.T) {
	var times []float64
	for i := 100; i > 0; i-- {
		times = append(times, float64(i))
	}
	if got, want := latencyOf(times), (Latency{P50: 50, P90: 90, P99: 99, Max: 100}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := latencyOf([]float64{7}), (Latency{7, 7, 7, 7}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func FuzzParseBanner(f *testing.F) {
	f.Add("echo echo east echo-0 v1\n")
	f.Add("echo - - - -")
	f.Fuzz(func(t *testing.T, line string) {
		a, ok := ParseBanner(line)
		if !ok {
			return
		}
		if again, ok := ParseBanner(a.Banner()); !ok || again != a {
			t.Errorf("%q: %+v, then %+v", line, a, again)
		}
	})
}
