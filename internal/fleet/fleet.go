// Package fleet stands in for many clusters at once: API servers in this
// process that list and watch generated objects over TLS, as far as a client
// that reads asks for it. Nothing can be written through them; what changes, a
// test changes by Put and Delete.
package fleet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Token is the bearer token that every API server of a fleet asks for.
const Token = "fleet"

// Fleet is a number of clusters with one certificate.
type Fleet struct {
	pair     tls.Certificate
	caPEM    []byte
	codec    *codec
	clusters []*Cluster
}

// New returns a fleet without clusters. Close ends it.
func New() (*Fleet, error) {
	codec, err := newCodec()
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	pair, caPEM, err := certificate()
	if err != nil {
		return nil, fmt.Errorf("fleet: make certificate: %w", err)
	}
	return &Fleet{pair: pair, caPEM: caPEM, codec: codec}, nil
}

// certificate makes a self-signed one for 127.0.0.1, valid for a day.
func certificate() (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fleet"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, caPEM, nil
}

// Add starts the API server of a cluster without objects, on a loopback port
// of its own.
func (f *Fleet) Add(name string) (*Cluster, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	c := &Cluster{Name: name, Server: "https://" + listener.Addr().String(), store: newStore(), codec: f.codec}
	c.http = &http.Server{
		Handler:   c,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{f.pair}, MinVersion: tls.VersionTLS12},
		ErrorLog:  log.New(io.Discard, "", 0), // clients that are closed say much
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.http.ServeTLS(listener, "", "")
	}()
	c.served = done
	f.clusters = append(f.clusters, c)
	return c, nil
}

// Clusters returns the clusters in the order in which they were added.
func (f *Fleet) Clusters() []*Cluster { return f.clusters }

// Close ends all API servers and every watch.
func (f *Fleet) Close() {
	for _, c := range f.clusters {
		_ = c.http.Close()
		<-c.served
	}
}

// Kubeconfig returns the way in to c.
func (f *Fleet) Kubeconfig(c *Cluster) ([]byte, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters[c.Name] = &clientcmdapi.Cluster{Server: c.Server, CertificateAuthorityData: f.caPEM}
	config.AuthInfos[c.Name] = &clientcmdapi.AuthInfo{Token: Token}
	config.Contexts[c.Name] = &clientcmdapi.Context{Cluster: c.Name, AuthInfo: c.Name}
	config.CurrentContext = c.Name
	return clientcmd.Write(*config)
}
