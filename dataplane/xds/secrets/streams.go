package secrets

import (
	"context"
	"errors"
	"io"
	"strconv"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// StreamSecrets is the state-of-the-world form: a response holds all secrets of
// the subscription, and is sent when one of them changed.
func (s *Server) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	reqs, failed := requests(stream.Context(), stream.Recv)
	w := &watch{server: s, sent: map[string]string{}}
	nonce := 0
	for {
		changed := s.source.Changed()
		due, err := w.due()
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		if len(due) > 0 {
			nonce++
			if err := s.sendAll(stream, w, nonce); err != nil {
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
			if n := r.GetResponseNonce(); n != "" && n != strconv.Itoa(nonce) {
				continue // stale
			}
			if d := r.GetErrorDetail(); d != nil {
				s.log.Error("secret refused by envoy", "err", d.GetMessage())
			}
			w.only(r.GetResourceNames())
		}
	}
}

// only makes the subscription names; what was sent stays known.
func (w *watch) only(names []string) {
	next := make(map[string]string, len(names))
	for _, n := range names {
		next[n] = w.sent[n]
	}
	w.sent = next
}

func (s *Server) sendAll(stream secretv3.SecretDiscoveryService_StreamSecretsServer, w *watch, nonce int) error {
	resp := &discoveryv3.DiscoveryResponse{TypeUrl: Type, Nonce: strconv.Itoa(nonce)}
	for name := range w.sent {
		sec, ok, err := s.make(name)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		if ok {
			resp.Resources = append(resp.Resources, sec.body)
			resp.VersionInfo += sec.version
		}
	}
	return stream.Send(resp)
}

// DeltaSecrets is the incremental form.
func (s *Server) DeltaSecrets(stream secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	reqs, failed := requests(stream.Context(), stream.Recv)
	w := &watch{server: s, sent: map[string]string{}}
	nonce := 0
	for {
		changed := s.source.Changed()
		due, err := w.due()
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		if len(due) > 0 {
			nonce++
			resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: Type, Nonce: strconv.Itoa(nonce)}
			for _, sec := range due {
				resp.Resources = append(resp.Resources, &discoveryv3.Resource{Name: sec.name, Version: sec.version, Resource: sec.body})
			}
			if err := stream.Send(resp); err != nil {
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
			w.change(r)
		}
	}
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
	resp := &discoveryv3.DiscoveryResponse{TypeUrl: Type}
	for _, name := range r.GetResourceNames() {
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
