package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/isthmus-mesh/isthmus/api"
	"github.com/isthmus-mesh/isthmus/primary/server"
)

// listen opens every port. The debug view is on loopback: it asks nobody who he is.
func listen() (server.Listeners, error) {
	var l server.Listeners
	var opened []net.Listener
	open := func(into *net.Listener, host string, port int) error {
		listener, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
		if err != nil {
			return err
		}
		*into = listener
		opened = append(opened, listener)
		return nil
	}
	err := errors.Join(
		open(&l.Discovery, "", api.PortDiscovery),
		open(&l.Webhook, "", api.PortWebhook),
		open(&l.Metrics, "", api.PortMetrics),
		open(&l.Health, "", api.PortControlHealth),
		open(&l.Debug, "127.0.0.1", api.PortAdmin),
	)
	if err != nil {
		for _, listener := range opened {
			_ = listener.Close()
		}
	}
	return l, err
}
