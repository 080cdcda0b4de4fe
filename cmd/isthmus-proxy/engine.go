package main

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/dataplane/config"
	"github.com/isthmus-mesh/isthmus/dataplane/xds"
)

// An engine is a data plane that takes its configuration from us.
type engine interface {
	Apply(map[string]map[string]proto.Message) error
	Run(ctx context.Context) error
	Drain(ctx context.Context) error
}

// applier joins the xDS client with the built-in data plane.
type applier struct{ engine engine }

func (applier) Check(typeURL, name string, m proto.Message) error {
	return config.Check(typeURL, name, m)
}

func (a applier) Apply(s xds.State) error { return a.engine.Apply(s) }

// newEngine makes the built-in data plane.
func (p *proxy) newEngine() (engine, error) {
	return nil, errors.New("no built-in data plane in this build")
}
