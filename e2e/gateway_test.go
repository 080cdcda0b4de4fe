//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// The gateway passes on exported server names that come with the mesh's ALPN name and
// nothing else; what it passes on asks for a client certificate.
func TestGatewayPassesOnlyExports(t *testing.T) {
	mesh.Needs(t, SeparateNetworks)
	t.Parallel()
	const ns = "gateway-names"
	caller := exportedEcho(t, ns, mesh.West)
	caller.Reaches(t, "http://echo."+ns+".svc.clusterset.local", time.Minute, "west")
	mesh.West.ApplyYAML(t, ns, "apiVersion: v1\nkind: Service\nmetadata: {name: secret}\nspec: {selector: {app: echo}, ports: [{name: http, port: 80, targetPort: 8080}]}\n")
	addr := mesh.West.Forward(t, "isthmus-system", mesh.West.SystemPod(t, "isthmus-eastwest"), 15443)

	t.Run("exported", func(t *testing.T) {
		peer, err := hello(t, addr, "p80.echo."+ns+".sni.isthmus.internal", "isthmus")
		if peer == nil {
			t.Fatalf("no handshake: %v", err)
		}
		if len(peer.URIs) != 1 || peer.URIs[0].String() != "spiffe://cluster.local/ns/"+ns+"/sa/echo" {
			t.Errorf("the far end is %v", peer.URIs)
		}
		if err == nil {
			t.Error("it let a caller without a certificate in")
		}
	})
	for name, refused := range map[string]struct{ sni, alpn string }{
		"not exported":        {"p80.secret." + ns + ".sni.isthmus.internal", "isthmus"},
		"another port":        {"p81.echo." + ns + ".sni.isthmus.internal", "isthmus"},
		"without the ALPN":    {"p80.echo." + ns + ".sni.isthmus.internal", "h2"},
		"an xds cluster":      {"passthrough", "isthmus"},
		"the bootstrap's xDS": {"xds-grpc", "isthmus"},
		"its Service's name":  {"echo." + ns + ".svc.cluster.local", "isthmus"},
		"no name":             {"", "isthmus"},
	} {
		t.Run(name, func(t *testing.T) {
			if peer, err := hello(t, addr, refused.sni, refused.alpn); peer != nil || err == nil {
				t.Errorf("%q with %q was passed on", refused.sni, refused.alpn)
			}
		})
	}
	t.Run("plaintext", func(t *testing.T) {
		conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: echo."+ns+"\r\n\r\n"); err != nil {
			return
		}
		_ = conn.SetReadDeadline(time.Now().Add(15 * time.Second))
		if n, err := conn.Read(make([]byte, 16)); n > 0 || err == nil {
			t.Errorf("it answered %d bytes to plaintext", n)
		}
	})
}

// hello shakes hands as a stranger without a certificate and returns the certificate it
// was shown, if any, and how the connection ended: TLS 1.3 tells a client that it is
// refused only after the handshake.
func hello(t *testing.T, addr, sni, alpn string) (peer *x509.Certificate, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{
		ServerName: sni, NextProtos: []string{alpn}, InsecureSkipVerify: true, //nolint:gosec // a stranger that looks, and trusts nothing
		VerifyPeerCertificate: func(certs [][]byte, _ [][]*x509.Certificate) error {
			peer, err = x509.ParseCertificate(certs[0])
			return err
		},
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return peer, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := conn.Read(make([]byte, 16))
	if n > 0 {
		return peer, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return peer, fmt.Errorf("closed: %w", io.EOF)
	}
	return peer, err
}
