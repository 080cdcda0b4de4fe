package xds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// maxResponse bounds one response in bytes.
const maxResponse = 128 << 20

// errLastGood ends a session so that the next one says what was just loaded.
var errLastGood = errors.New("last good configuration loaded")

// A session is one stream.
type session struct {
	c          *Client
	stream     discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	subscribed map[string]map[string]bool // type → names; a type is in it once it was asked for
	node       bool                       // the node was sent
}

// session opens a stream and serves it until it ends.
func (c *Client) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(c.opts.Conn).DeltaAggregatedResources(ctx, grpc.MaxCallRecvMsgSize(maxResponse))
	if err != nil {
		return fmt.Errorf("open xds stream: %w", err)
	}
	s := &session{c: c, stream: stream, subscribed: make(map[string]map[string]bool)}
	responses, ended := make(chan *discoveryv3.DeltaDiscoveryResponse), make(chan error, 1)
	go receive(ctx, stream, responses, ended)
	err = s.serve(ctx, responses, ended)
	if errors.Is(err, io.EOF) { // sending says only that the stream ended; receiving says why
		err = cmp.Or(reasonOf(responses, ended), err)
	}
	cancel()
	for range ended { //nolint:revive // until it is closed
	}
	return err
}

// reasonOf passes over what still comes in and returns why the stream ended, or
// nil where that takes more than a second.
func reasonOf(responses <-chan *discoveryv3.DeltaDiscoveryResponse, ended <-chan error) error {
	timeout := time.NewTimer(time.Second)
	defer timeout.Stop()
	for {
		select {
		case <-responses:
		case err := <-ended:
			return err
		case <-timeout.C:
			return nil
		}
	}
}

// receive hands over responses until the stream ends, then reports why.
func receive(ctx context.Context, stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, to chan<- *discoveryv3.DeltaDiscoveryResponse, ended chan<- error) {
	defer close(ended)
	for {
		resp, err := stream.Recv()
		if err != nil {
			ended <- fmt.Errorf("receive: %w", err)
			return
		}
		select {
		case to <- resp:
		case <-ctx.Done():
			return
		}
	}
}

func (s *session) serve(ctx context.Context, responses <-chan *discoveryv3.DeltaDiscoveryResponse, ended <-chan error) error {
	if err := s.open(); err != nil {
		return err
	}
	var fallback <-chan time.Time
	if s.c.mayLoad() {
		t := time.NewTimer(s.c.opts.Fallback)
		defer t.Stop()
		fallback = t.C
	}
	for {
		warm, save := s.c.timers()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case resp := <-responses:
			s.c.setConnected(true, nil)
			s.c.backoff.reset()
			if err := s.answer(resp); err != nil {
				return err
			}
		case <-warm:
			s.c.rewarm()
		case <-save:
			s.c.save()
		case <-fallback:
			if s.c.loadLastGood() {
				return errLastGood
			}
		}
	}
}

// open asks for everything, and says what is held already.
func (s *session) open() error {
	for _, typeURL := range Types() {
		if err := s.subscribe(typeURL); err != nil {
			return err
		}
	}
	return nil
}

// answer takes resp in, acknowledges or refuses it, and asks for what it refers to.
func (s *session) answer(resp *discoveryv3.DeltaDiscoveryResponse) error {
	typeURL := resp.GetTypeUrl()
	ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResponseNonce: resp.GetNonce()}
	if _, asked := s.subscribed[typeURL]; !asked {
		ack.ErrorDetail = &status.Status{Code: int32(codes.InvalidArgument), Message: fmt.Sprintf("type %q was not asked for", typeURL)}
		return s.send(ack)
	}
	refused := s.c.accept(resp)
	if ack.ErrorDetail = detail(refused); len(refused) > 0 {
		s.c.log.Warn("xds resources refused", "type_url", typeURL, "nonce", resp.GetNonce(), "count", len(refused), "err", ack.ErrorDetail.Message)
	}
	if err := s.send(ack); err != nil {
		return err
	}
	if of := referred(typeURL); of != "" {
		return s.subscribe(of)
	}
	return nil
}

// subscribe brings the server's view of what we want of typeURL up to date.
func (s *session) subscribe(typeURL string) error {
	have, asked := s.subscribed[typeURL]
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL}
	wanted := s.c.held.tables[typeURL].wanted
	for name := range wanted {
		if !have[name] {
			req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, name)
		}
	}
	for name := range have {
		if wanted[name] == 0 {
			req.ResourceNamesUnsubscribe = append(req.ResourceNamesUnsubscribe, name)
		}
	}
	nothing := len(req.ResourceNamesSubscribe) == 0 && len(req.ResourceNamesUnsubscribe) == 0
	if nothing && (asked || !wildcard(typeURL)) {
		return nil
	}
	if !asked {
		have = make(map[string]bool)
		s.subscribed[typeURL] = have
		req.InitialResourceVersions = s.c.held.versions(typeURL)
	}
	note(have, req)
	return s.send(req)
}

// note records what req subscribes to.
func note(have map[string]bool, req *discoveryv3.DeltaDiscoveryRequest) {
	for _, name := range req.ResourceNamesSubscribe {
		have[name] = true
	}
	for _, name := range req.ResourceNamesUnsubscribe {
		delete(have, name)
	}
}

// send sends req, the first one of the stream with the node.
func (s *session) send(req *discoveryv3.DeltaDiscoveryRequest) error {
	if !s.node {
		req.Node, s.node = s.c.opts.Node, true
	}
	if err := s.stream.Send(req); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}
