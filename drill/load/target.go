package load

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// target is something that can be asked once, again and again.
type target interface {
	// ask sends one request; status is 0 where the protocol has none.
	ask(ctx context.Context) (answer Answer, status int, err error)
	close()
}

// newTarget returns the target that raw names: http://, https://, tcp:// (sends a line
// and reads one), banner:// (the server speaks first) or grpc:// (health check).
func newTarget(raw string, opts Options) (target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", raw, err)
	}
	if u.Host == "" {
		return nil, fmt.Errorf("target %q has no host", raw)
	}
	switch u.Scheme {
	case "http", "https":
		return newHTTPTarget(raw, opts), nil
	case "tcp", "banner":
		return &tcpTarget{addr: u.Host, speakFirst: u.Scheme == "tcp"}, nil
	case "grpc":
		return newGRPCTarget(u.Host)
	}
	return nil, fmt.Errorf("target %q: scheme is none of http, https, tcp, banner, grpc", raw)
}

type httpTarget struct {
	url    string
	header http.Header
	client *http.Client
}

func newHTTPTarget(raw string, opts Options) *httpTarget {
	transport := &http.Transport{
		MaxIdleConnsPerHost: opts.Concurrency,
		MaxConnsPerHost:     opts.Concurrency,
		IdleConnTimeout:     30 * time.Second,
		DisableKeepAlives:   opts.NewConnections,
	}
	return &httpTarget{url: raw, header: opts.Header, client: &http.Client{Transport: transport}}
}

func (t *httpTarget) ask(ctx context.Context) (Answer, int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url, nil)
	if err != nil {
		return Answer{}, 0, err
	}
	req.Header = t.header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	var s stage
	res, err := t.client.Do(req.WithContext(httptrace.WithClientTrace(ctx, s.trace())))
	if err != nil {
		return Answer{}, 0, fmt.Errorf("%w (%s)", err, s.text())
	}
	defer res.Body.Close()
	answer := answerOf(res.Header)
	start, err := io.ReadAll(io.LimitReader(res.Body, maxErrorText))
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
	}
	if err != nil {
		return answer, res.StatusCode, fmt.Errorf("read answer: %w", err)
	}
	if res.StatusCode >= 400 {
		return answer, res.StatusCode, statusError{res.StatusCode, strings.TrimSpace(string(start))}
	}
	return answer, res.StatusCode, nil
}

// maxErrorText is how much of a bad answer's body is kept, in bytes.
const maxErrorText = 200

func (t *httpTarget) close() { t.client.CloseIdleConnections() }

func answerOf(h http.Header) Answer {
	return Answer{
		Service: h.Get(HeaderService),
		Cluster: h.Get(HeaderCluster),
		Pod:     h.Get(HeaderPod),
		Version: h.Get(HeaderVersion),
		Caller:  h.Get(HeaderCaller),
	}
}

// tcpTarget opens a connection for each request, as a new one is what shows
// whether a server can be reached.
type tcpTarget struct {
	addr       string
	speakFirst bool
}

func (t *tcpTarget) ask(ctx context.Context) (Answer, int, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return Answer{}, 0, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return Answer{}, 0, err
		}
	}
	if t.speakFirst {
		if _, err := io.WriteString(conn, "hello\n"); err != nil {
			return Answer{}, 0, err
		}
	}
	line, err := bufio.NewReader(io.LimitReader(conn, 4096)).ReadString('\n')
	if err != nil {
		return Answer{}, 0, fmt.Errorf("read answer: %w", err)
	}
	answer, ok := ParseBanner(line)
	if !ok {
		return Answer{}, 0, fmt.Errorf("%w: %q", errAnswer, strings.TrimSpace(line))
	}
	return answer, 0, nil
}

func (t *tcpTarget) close() {}

type grpcTarget struct{ conn *grpc.ClientConn }

func newGRPCTarget(host string) (target, error) {
	conn, err := grpc.NewClient("passthrough:///"+host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", host, err)
	}
	return &grpcTarget{conn}, nil
}

func (t *grpcTarget) close() { t.conn.Close() }
