package trust

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/api"
)

// ErrNoSVID is what a Source returns that has no identity (yet): as a client it
// presents no certificate then, as a server it refuses.
var ErrNoSVID = errors.New("no svid")

// Source gives the identity and the roots of the moment. It is asked at every
// handshake and must not wait.
type Source interface {
	SVID() (SVID, error)
	Bundle() (Bundle, error)
}

// ServerTLS returns a configuration for servers of the mesh: TLS 1.3, no
// resumption, so that every connection is verified with the bundle of its
// moment. With requireClient, clients must have a certificate; without it they
// may, and then it must be right. authorize, which may be nil, has the last
// word about clients with one.
func ServerTLS(src Source, alpn []string, requireClient bool, authorize func(Peer) error) *tls.Config {
	auth := tls.RequestClientCert
	if requireClient {
		auth = tls.RequireAnyClientCert
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		NextProtos:             slices.Clone(alpn),
		ClientAuth:             auth,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			svid, err := source(src)
			if err != nil {
				return nil, err
			}
			return &svid.Certificate, nil
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 && !requireClient {
				return nil
			}
			_, err := verify(state, src, authorize)
			return err
		},
	}
}

// ClientTLS returns a configuration for clients of the mesh: TLS 1.3, no
// resumption. The server is known by its identity, which authorize judges (nil
// lets anybody of the trust domain be the server). A serverName under
// api.ClusterZone besides demands that the server proves that cluster.
func ClientTLS(src Source, serverName string, alpn []string, authorize func(Peer) error) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		ServerName:             serverName,
		NextProtos:             slices.Clone(alpn),
		// Not insecure: names in certificates are SPIFFE IDs, which the standard
		// check does not know. VerifyConnection validates the whole path.
		InsecureSkipVerify: true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			svid, err := source(src)
			if errors.Is(err, ErrNoSVID) {
				return new(tls.Certificate), nil
			}
			if err != nil {
				return nil, err
			}
			return &svid.Certificate, nil
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			peer, err := verify(state, src, authorize)
			if err != nil {
				return err
			}
			if strings.HasSuffix(serverName, "."+api.ClusterZone) && ClusterDNS(peer.Cluster) != serverName {
				return fmt.Errorf("%w: %s of cluster %q answers for %q", ErrPeer, peer.ID, peer.Cluster, serverName)
			}
			return nil
		},
	}
}

func source(src Source) (SVID, error) {
	svid, err := src.SVID()
	if err != nil {
		return SVID{}, err
	}
	if svid.IsZero() {
		return SVID{}, ErrNoSVID
	}
	return svid, nil
}

func verify(state tls.ConnectionState, src Source, authorize func(Peer) error) (Peer, error) {
	bundle, err := src.Bundle()
	if err != nil {
		return Peer{}, fmt.Errorf("%w: %w", ErrPeer, err)
	}
	peer, err := VerifyPeer(state.PeerCertificates, bundle, time.Now())
	if err != nil || authorize == nil {
		return peer, err
	}
	if err := authorize(peer); err != nil {
		return Peer{}, fmt.Errorf("%w: %s: %w", ErrPeer, peer.ID, err)
	}
	return peer, nil
}

// Only returns an authorize function that lets just the given identities be the
// peer. None given means nobody: an empty list never means anybody.
func Only(ids ...ID) func(Peer) error {
	ids = slices.Clone(ids)
	return func(peer Peer) error {
		if slices.Contains(ids, peer.ID) && !peer.ID.IsZero() {
			return nil
		}
		return errors.New("not an identity expected here")
	}
}
