package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/dataplane/intercept/netnstest"
	"github.com/isthmus-mesh/isthmus/internal/meshtest"
	"github.com/isthmus-mesh/isthmus/primary/ads"
	"github.com/isthmus-mesh/isthmus/trust"
	"github.com/isthmus-mesh/isthmus/trust/ca"
	"github.com/isthmus-mesh/isthmus/trust/csr"
)

// reviewer knows tokens that bear NAMESPACE/ACCOUNT/POD where the signature
// belongs; the real one asks an API server.
type reviewer struct{}

func (reviewer) Review(_ context.Context, cluster, token string) (csr.Reviewed, error) {
	signature, err := base64.RawURLEncoding.DecodeString(token[strings.LastIndexByte(token, '.')+1:])
	parts := strings.Split(string(signature), "/")
	if err != nil || len(parts) != 3 {
		return csr.Reviewed{}, csr.ErrRefused
	}
	id, err := meshtest.Account(parts[0], parts[1])
	return csr.Reviewed{ID: id, Cluster: cluster, Namespace: parts[0], Pod: parts[2], PodUID: "1"}, err
}

// newRoot makes the root of the clusterset.
func newRoot(t testing.TB) *ca.Root {
	t.Helper()
	domain, err := trust.ParseDomain(api.DefaultTrustDomain)
	if err != nil {
		t.Fatal(err)
	}
	root, err := ca.CreateRoot(ca.RootOptions{Domain: domain})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// A control is the control plane of one cluster: the real certificate service
// and the real discovery server, fed with a mesh as text.
type control struct {
	t         testing.TB
	cluster   string
	addr      string
	at        *netnstest.Namespace
	authority *ca.Authority
	ads       *ads.Server
	grpc      *grpc.Server
	mesh      string
}

func newControl(t testing.TB, root *ca.Root, lifetime time.Duration, cluster, addr string, at *netnstest.Namespace, mesh string) *control {
	t.Helper()
	chain, key, err := root.Intermediate(cluster)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.New(ca.Options{Cluster: cluster, Domain: root.Domain(), ChainPEM: chain, KeyPEM: key, BundlePEM: root.CertificatePEM(), Lifetime: lifetime})
	if err != nil {
		t.Fatal(err)
	}
	return &control{t: t, cluster: cluster, addr: addr, at: at, authority: authority, mesh: mesh}
}

// start serves until stop.
func (c *control) start() {
	c.t.Helper()
	self, err := meshtest.Account(api.SystemNamespace, api.ControlPlaneName)
	if err != nil {
		c.t.Fatal(err)
	}
	source := c.authority.Source(self)
	c.grpc = grpc.NewServer(grpc.Creds(credentials.NewTLS(trust.ServerTLS(source, []string{"h2"}, false, nil))))
	csr.NewServer(csr.Options{Authority: c.authority, Reviewer: reviewer{}}).Register(c.grpc)
	c.ads, err = ads.New(ads.Options{Authenticate: func(ctx context.Context) (ads.Caller, error) {
		caller, err := csr.Authenticate(ctx, reviewer{}, c.authority.Bundle())
		return ads.Caller{ID: caller.ID, Cluster: caller.Cluster, Pod: caller.Pod}, err
	}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.ads.Register(c.grpc)
	c.ads.Update(meshtest.Snapshot(c.t, c.mesh))
	l := c.at.Listen("tcp", c.addr)
	go c.grpc.Serve(l)
	c.t.Cleanup(c.stop)
}

func (c *control) stop() { c.grpc.Stop() }

// update replaces what the control plane knows.
func (c *control) update(mesh string) {
	c.t.Helper()
	c.mesh = mesh
	c.ads.Update(meshtest.Snapshot(c.t, mesh))
}

func (c *control) token(who string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte("{}")) + "." + part(fmt.Appendf(nil, `{"aud":%q}`, api.TokenAudience(c.cluster))) + "." + part([]byte(who))
}

// files writes what a pod is given as volumes, and returns the flags for it.
func (c *control) files(namespace, account, pod string) []string {
	c.t.Helper()
	dir := c.t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			c.t.Fatal(err)
		}
		return path
	}
	return []string{
		"--token", write("token", c.token(namespace+"/"+account+"/"+pod)),
		"--bundle", write("bundle.pem", string(c.authority.Bundle().PEM())),
		"--data", filepath.Join(dir, "data"),
		"--discovery", c.addr, "--cluster", c.cluster,
	}
}
