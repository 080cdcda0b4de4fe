package health

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// maxBody is how much of an answer is read, in bytes; kubelet's own limit.
const maxBody = 10 << 10

// run does what kubelet would have done and returns the status to answer with:
// the application's own for HTTP, 200 for the others. An error means that the
// application did not answer as it should.
func (s *Server) run(ctx context.Context, p Probe) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout())
	defer cancel()
	switch {
	case p.HTTP != nil:
		return s.runHTTP(ctx, p.HTTP)
	case p.TCP != nil:
		return http.StatusOK, s.runTCP(ctx, p.TCP)
	default:
		return http.StatusOK, s.runGRPC(ctx, p.GRPC)
	}
}

func (s *Server) runHTTP(ctx context.Context, p *HTTPProbe) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url(s.address(p.Host, p.Port)), nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", "kube-probe/isthmus")
	req.Header.Set("Accept", "*/*")
	for _, h := range p.Headers {
		if strings.EqualFold(h.Name, "Host") {
			req.Host = h.Value
			continue
		}
		req.Header.Add(h.Name, h.Value)
	}
	resp, err := s.client().Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.CopyN(io.Discard, resp.Body, maxBody)
	if err != nil && err != io.EOF {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	return resp.StatusCode, nil
}

func (p *HTTPProbe) url(address string) string {
	scheme := "http"
	if strings.EqualFold(p.Scheme, "https") {
		scheme = "https"
	}
	return scheme + "://" + address + "/" + strings.TrimPrefix(p.Path, "/")
}

// client makes connections that do not outlive a probe and follows no redirect,
// whose status is the answer: kubelet counts it as success too.
func (s *Server) client() *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:       s.opts.Dial,
			DisableKeepAlives: true,
			// As kubelet: the certificate of a pod names no address.
			TLSClientConfig:        &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10},
			MaxResponseHeaderBytes: 64 << 10,
		},
	}
}

func (s *Server) runTCP(ctx context.Context, p *TCPProbe) error {
	conn, err := s.opts.Dial(ctx, "tcp", s.address(p.Host, p.Port))
	if err != nil {
		return err
	}
	return conn.Close()
}

func (s *Server) runGRPC(ctx context.Context, p *GRPCProbe) error {
	conn, err := grpc.NewClient("passthrough:///"+s.address("", p.Port),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return s.opts.Dial(ctx, "tcp", a) }))
	if err != nil {
		return err
	}
	defer conn.Close()
	resp, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: p.Service})
	if err != nil {
		return err
	}
	if resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return fmt.Errorf("grpc health is %s", resp.GetStatus())
	}
	return nil
}

func (s *Server) address(host string, port int) string {
	if host == "" {
		host = s.opts.Pod.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}
