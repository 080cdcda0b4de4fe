//go:build conformance

package conformance

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

func connectSpecs() []spec {
	return slices.Concat(
		fromBoth(spec{Name: "what is not exported cannot be reached", Section: "2", Required: true, run: unreachable, setUp: func(f *fixture) { f.exported = false }}),
		fromBoth(spec{Name: "an exported service is reached by TCP from every cluster", Section: "6", run: byTCP}),
		fromBoth(spec{Name: "of a service in two clusters only the exporting one is reached", Section: "2", run: onlyExporter}),
		[]spec{
			{Name: "an exported service is reached by UDP from every cluster", Section: "6", Networks: oneNetwork, run: byUDP, setUp: calls(plainCaller)},
			{Name: "UDP does not cross networks, and the export says so", Section: "5", Networks: separateNetworks, run: udpStays, setUp: calls(plainCaller)},
			{Name: "two exporters both serve", Section: "5", Networks: oneNetwork, run: bothServe, setUp: calls(plainCaller)},
			{Name: "a client's session stays with one pod of all clusters", Section: "3", Networks: oneNetwork, run: sticky, setUp: func(f *fixture) {
				calls(plainCaller)(f)
				f.service.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			}},
			{Name: "servers without a sidecar are not reached from other networks, and the export says so", Section: "5", Networks: separateNetworks, run: noSidecar, setUp: func(f *fixture) {
				calls(plainCaller)(f)
				f.meshed = false
			}},
		},
		fromBoth(spec{Name: "own pods come first, and others serve when they are gone", Section: "5", Networks: separateNetworks, run: ownFirst}),
	)
}

func unreachable(f *fixture) {
	f.podAddresses(f.clusters[0], 1)
	for _, c := range f.clusters {
		if err := silent(f.ask(f.Context(), c, times(20, f.call("-w 1 ")))); err != nil {
			f.Fatalf("%s: %v", c.name, err)
		}
	}
}

func byTCP(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	f.answers(f.call("-w 3 "), contains("pod ip "+pod))
}

func byUDP(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	f.answers(f.call("-u -w 2 "), contains("pod ip "+pod))
}

func udpStays(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	f.ready(f.clusters[0], "not TCP", "udp 42/UDP")
	f.answersIn(f.clusters[0], f.call("-u -w 2 "), contains("pod ip "+pod))
	f.answers(f.call("-w 3 "), contains("pod ip "+pod)) // TCP of the same number does
	if err := silent(f.ask(f.Context(), f.clusters[1], times(3, f.call("-u -w 2 ")))); err != nil {
		f.Error(err)
	}
}

func onlyExporter(f *fixture) {
	f.create(f.clusters[1], callable())
	f.create(f.clusters[1], deployment(1))
	f.podAddresses(f.clusters[1], 1)
	f.alone(f.clusters, 42, f.podAddresses(f.clusters[0], 1)[0])
}

func bothServe(f *fixture) {
	f.create(f.clusters[1], deployment(1))
	f.second(callable(), newExport())
	for _, from := range f.clusters {
		pod := f.podAddresses(from, 1)[0]
		f.answers(f.call("-w 3 "), contains("pod ip "+pod))
	}
}

func sticky(f *fixture) {
	f.create(f.clusters[1], deployment(2))
	other := callable()
	other.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
	f.second(other, newExport())
	f.podAddresses(f.clusters[0], 1)
	f.podAddresses(f.clusters[1], 2)
	for _, c := range f.clusters {
		f.eventually("three pods of two clusters", func(ctx context.Context) error {
			list, err := f.slices(ctx, c)
			if err != nil {
				return err
			}
			return same(len(readyAddresses(list)), 3)
		})
		f.answersIn(c, times(15, f.call("-w 2 ")), func(output string) error {
			got := tally(output)
			if len(got) != 1 || got["failed"] > 0 {
				return fmt.Errorf("answered by %v", got)
			}
			return nil
		})
	}
}

func noSidecar(f *fixture) {
	pod := f.podAddresses(f.clusters[0], 1)[0]
	f.ready(f.clusters[0], "no ready pod has a sidecar")
	f.answersIn(f.clusters[0], f.call("-w 3 "), contains("pod ip "+pod))
	f.imported(f.clusters[1], hasAddress)
	f.throughout("no endpoint", func(ctx context.Context) error {
		list, err := f.slices(ctx, f.clusters[1])
		if err != nil {
			return err
		}
		return same(len(readyAddresses(list)), 0)
	})
	f.must(silent(f.ask(f.Context(), f.clusters[1], times(5, f.call("-w 1 ")))))
}

func ownFirst(f *fixture) {
	f.create(f.clusters[1], deployment(1))
	f.second(callable(), newExport())
	for i, c := range f.clusters {
		f.alone(f.clusters[i:i+1], 42, f.podAddresses(c, 1)[0])
	}
	f.scale(f.clusters[1], 0)
	f.alone(f.clusters[1:], 42, f.podAddresses(f.clusters[0], 1)[0])
	f.scale(f.clusters[1], 1)
	f.alone(f.clusters[1:], 42, f.podAddresses(f.clusters[1], 1)[0])
}
