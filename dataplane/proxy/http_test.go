package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A WebSocket handshake passes, and bytes both ways after it.
func TestUpgrade(t *testing.T) {
	at := app(t, func(w http.ResponseWriter, r *http.Request) {
		conn, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Accept: x\r\n\r\n", r.Header.Get("Upgrade"))
		_, _ = io.Copy(conn, brw)
	})
	w := newTwoClusters(t, at, true, true)
	c := dial(t, w.east, "127.0.0.2")
	_, err := io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: reviews\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n")
	must(t, err)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	must(t, err)
	if res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Sec-Websocket-Accept") != "x" {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	for _, msg := range []string{"one", "two"} {
		_, err = io.WriteString(c, msg)
		must(t, err)
		got := make([]byte, len(msg))
		_, err = io.ReadFull(r, got)
		must(t, err)
		if string(got) != msg {
			t.Fatalf("%q came back as %q", msg, got)
		}
	}
	must(t, c.Close())
	eventually(t, "west has no connection left", func() bool { return w.west.Connections() == 0 })
}

// Other upgrades are refused; HTTP/2's is left out.
func TestUpgradeRefused(t *testing.T) {
	at := app(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Header.Get("Upgrade")) })
	w := newTwoClusters(t, at, true, true)
	for upgrade, want := range map[string]int{"foo": 403, "h2c": 200} {
		req, _ := http.NewRequest("GET", "http://reviews/", nil)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", upgrade)
		res, err := client(t, w.east, "127.0.0.2", false).Do(req)
		must(t, err)
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != want || want == 200 && len(body) > 0 {
			t.Errorf("%s: %d %q", upgrade, res.StatusCode, body)
		}
	}
}

// A response is passed on piece by piece, and a request while it is answered.
func TestStreams(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		at := app(t, func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			_ = rc.EnableFullDuplex()
			w.Header().Set("Trailer", "X-Sum")
			w.WriteHeader(200)
			_ = rc.Flush()
			buf := make([]byte, 1)
			n := 0
			for {
				if _, err := io.ReadFull(r.Body, buf); err != nil {
					break
				}
				n++
				_, _ = w.Write(buf)
				_ = rc.Flush()
			}
			w.Header().Set("X-Sum", fmt.Sprint(n))
		})
		w := newTwoClusters(t, at, true, true)
		pr, pw := io.Pipe()
		req, _ := http.NewRequest("POST", "http://reviews/", pr)
		res, err := client(t, w.east, "127.0.0.2", h2).Do(req) // the head comes before any byte of the body
		must(t, err)
		for i := range 5 {
			_, err := pw.Write([]byte{byte('a' + i)})
			must(t, err)
			var b [1]byte
			_, err = io.ReadFull(res.Body, b[:])
			must(t, err)
			if b[0] != byte('a'+i) {
				t.Fatalf("got %q", b)
			}
		}
		must(t, pw.Close())
		_, err = io.ReadAll(res.Body)
		must(t, err)
		if res.Trailer.Get("X-Sum") != "5" {
			t.Errorf("h2=%v trailer %v", h2, res.Trailer)
		}
		_ = res.Body.Close()
	}
}

// An application that breaks off in the middle is not taken for one that ended.
func TestBrokenResponse(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		at := app(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "part")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		w := newTwoClusters(t, at, true, true)
		res, err := client(t, w.east, "127.0.0.2", h2).Get("http://reviews/")
		must(t, err)
		body, err := io.ReadAll(res.Body)
		if err == nil {
			t.Errorf("h2=%v: a broken body came as whole: %q", h2, body)
		}
		_ = res.Body.Close()
	}
}

// Large bodies pass whole, both ways.
func TestLargeBody(t *testing.T) {
	at := app(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	w := newTwoClusters(t, at, true, true)
	for _, h2 := range []bool{false, true} {
		const size = 8 << 20
		res, err := client(t, w.east, "127.0.0.2", h2).Post("http://reviews/", "application/octet-stream", io.LimitReader(zeros{}, size))
		must(t, err)
		n, err := io.Copy(io.Discard, res.Body)
		must(t, err)
		if n != size {
			t.Errorf("h2=%v: %d bytes", h2, n)
		}
		_ = res.Body.Close()
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// What a response lacks is not invented: no content type, no body for HEAD.
func TestHeadersStay(t *testing.T) {
	at := app(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Set("X-Agent", strings.Join(r.Header["User-Agent"], ","))
		w.Header().Set("X-Forwarded", r.Header.Get("X-Forwarded-For")+r.Header.Get("Accept-Encoding"))
		if r.Method != "HEAD" {
			_, _ = io.WriteString(w, "<html>")
		}
	})
	w := newTwoClusters(t, at, true, true)
	c := dial(t, w.east, "127.0.0.2")
	r := bufio.NewReader(c)
	for _, method := range []string{"GET", "HEAD"} {
		_, err := fmt.Fprintf(c, "%s /x?a=%%2F&b=;c HTTP/1.1\r\nHost: reviews\r\n\r\n", method)
		must(t, err)
		req, _ := http.NewRequest(method, "/", nil)
		res, err := http.ReadResponse(r, req)
		must(t, err)
		_, err = io.ReadAll(res.Body)
		must(t, err)
		if res.Header.Get("Content-Type") != "" || len(res.Header["Set-Cookie"]) != 2 || res.Header.Get("X-Agent") != "" || res.Header.Get("X-Forwarded") != "" {
			t.Errorf("%s: %v", method, res.Header)
		}
	}
}

const echoMethod = "/test.Echo/Chat"

// grpcApp serves a stream both ways that echoes, and fails on "fail".
func grpcApp(t testing.TB) (at string) {
	t.Helper()
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "test.Echo", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: "Chat", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error {
			_ = stream.SendHeader(metadata.Pairs("x-head", "1"))
			stream.SetTrailer(metadata.Pairs("x-tail", "1"))
			for {
				var m wrapperspb.StringValue
				if err := stream.RecvMsg(&m); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				if m.GetValue() == "fail" {
					return status.Error(codes.AlreadyExists, "as asked: 100%")
				}
				if err := stream.SendMsg(&m); err != nil {
					return err
				}
			}
		},
	}}}, struct{}{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	go func() { _ = s.Serve(ln) }()
	t.Cleanup(s.Stop)
	return ln.Addr().String()
}

// gRPC passes: streams both ways, heads before messages, trailers, errors.
func TestGRPC(t *testing.T) {
	at := mustAddr(t, grpcApp(t))
	w := newTwoClusters(t, at, true, true)
	via := fmt.Sprintf("127.0.0.2:%d", w.east.bound(t, "outbound").Port())
	conn, err := grpc.NewClient("passthrough:///"+via, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

	stream, err := conn.NewStream(ctx, desc, echoMethod)
	must(t, err)
	head, err := stream.Header() // before anything was sent
	must(t, err)
	if head["x-head"] == nil {
		t.Errorf("head %v", head)
	}
	for i := range 20 {
		must(t, stream.SendMsg(wrapperspb.String(fmt.Sprint(i))))
		var got wrapperspb.StringValue
		must(t, stream.RecvMsg(&got))
		if got.GetValue() != fmt.Sprint(i) {
			t.Fatalf("%d came back as %q", i, got.GetValue())
		}
	}
	must(t, stream.CloseSend())
	if err := stream.RecvMsg(new(wrapperspb.StringValue)); err != io.EOF {
		t.Fatalf("end: %v", err)
	}
	if tail := stream.Trailer(); tail["x-tail"] == nil {
		t.Errorf("trailer %v", tail)
	}

	stream, err = conn.NewStream(ctx, desc, echoMethod)
	must(t, err)
	must(t, stream.SendMsg(wrapperspb.String("fail")))
	if got := status.Convert(stream.RecvMsg(new(wrapperspb.StringValue))); got.Code() != codes.AlreadyExists || got.Message() != "as asked: 100%" {
		t.Errorf("error %v", got)
	}

	stream, err = conn.NewStream(ctx, desc, "/test.Echo/Missing") // answered by trailers only
	must(t, err)
	if got := status.Code(stream.RecvMsg(new(wrapperspb.StringValue))); got != codes.Unimplemented {
		t.Errorf("missing method: %v", got)
	}

	w.east.apply(t, with(w.eastState, assignment(reviewsName)))
	stream, err = conn.NewStream(ctx, desc, echoMethod)
	must(t, err)
	if got := status.Convert(stream.RecvMsg(new(wrapperspb.StringValue))); got.Code() != codes.Unavailable || !strings.Contains(got.Message(), "no healthy upstream") {
		t.Errorf("no endpoint: %v", got)
	}
}
