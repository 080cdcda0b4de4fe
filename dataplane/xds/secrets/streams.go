package secrets

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A request is one of either form.
type request interface {
	GetResponseNonce() string
	GetErrorDetail() *rpcstatus.Status
}

// serve sends what of w is due, after each change and each request, until the
// stream ends. take takes a request in, given the latest nonce.
func serve[R request](s *Server, stream interface {
	Context() context.Context
	Recv() (R, error)
}, w *watch, send func(due []secret, nonce string) error, take func(r R, nonce string)) error {
	reqs, failed := requests(stream.Context(), stream.Recv)
	for nonce := 0; ; {
		changed := s.source.Changed()
		due, err := w.due()
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		if len(due) > 0 {
			nonce++
			if err := send(due, strconv.Itoa(nonce)); err != nil {
				return err
			}
		}
		select {
		case err := <-failed:
			return ended(err)
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-changed:
		case r := <-reqs:
			if d := r.GetErrorDetail(); d != nil {
				s.log.Error("secret refused by envoy", "err", d.GetMessage())
			}
			take(r, strconv.Itoa(nonce))
		}
	}
}

// StreamSecrets is the state-of-the-world form: a response holds all secrets of
// the subscription, and is sent when one of them changed.
func (s *Server) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	w := &watch{server: s, sent: map[string]string{}}
	send := func(_ []secret, nonce string) error {
		resp, err := s.all(slices.Sorted(maps.Keys(w.sent)))
		if err != nil {
			return err
		}
		resp.Nonce = nonce
		return stream.Send(resp)
	}
	return serve(s, stream, w, send, func(r *discoveryv3.DiscoveryRequest, nonce string) {
		if n := r.GetResponseNonce(); n == "" || n == nonce { // else stale
			w.only(r.GetResourceNames())
		}
	})
}

// only makes the subscription names; what was sent stays known.
func (w *watch) only(names []string) {
	next := make(map[string]string, len(names))
	for _, n := range names {
		next[n] = w.sent[n]
	}
	w.sent = next
}

// DeltaSecrets is the incremental form.
func (s *Server) DeltaSecrets(stream secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	w := &watch{server: s, sent: map[string]string{}}
	send := func(due []secret, nonce string) error {
		resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: Type, Nonce: nonce}
		for _, sec := range due {
			resp.Resources = append(resp.Resources, &discoveryv3.Resource{Name: sec.name, Version: sec.version, Resource: sec.body})
		}
		return stream.Send(resp)
	}
	return serve(s, stream, w, send, func(r *discoveryv3.DeltaDiscoveryRequest, _ string) { w.change(r) })
}

// change subscribes and unsubscribes. A name that is subscribed to anew is sent anew.
func (w *watch) change(r *discoveryv3.DeltaDiscoveryRequest) {
	for _, n := range r.GetResourceNamesSubscribe() {
		w.sent[n] = r.GetInitialResourceVersions()[n]
	}
	for _, n := range r.GetResourceNamesUnsubscribe() {
		delete(w.sent, n)
	}
}

// FetchSecrets answers once.
func (s *Server) FetchSecrets(_ context.Context, r *discoveryv3.DiscoveryRequest) (*discoveryv3.DiscoveryResponse, error) {
	return s.all(r.GetResourceNames())
}

// all returns those of names that there are.
func (s *Server) all(names []string) (*discoveryv3.DiscoveryResponse, error) {
	resp := &discoveryv3.DiscoveryResponse{TypeUrl: Type}
	for _, name := range names {
		sec, ok, err := s.make(name)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		if ok {
			resp.Resources = append(resp.Resources, sec.body)
			resp.VersionInfo += sec.version
		}
	}
	return resp, nil
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
