package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/cmd/isthmus/importview"
)

// printImport prints everything about one import.
func printImport(w io.Writer, now time.Time, i importview.Import) {
	fmt.Fprintf(w, "%s/%s\t%s\t%s\n", i.Namespace, i.Name, i.Hostname, dash(i.Type))
	fmt.Fprintln(w, "\nEXPORTED BY\tTO\tNETWORK\tSINCE\tREADY ENDPOINTS\tVALID\tREADY\tENTRY\tLOCAL NAME\tMESSAGE")
	for _, e := range i.Exporters {
		since := "-"
		if !e.Since.IsZero() {
			since = age(now, e.Since)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", e.Cluster, cmp.Or(strings.Join(e.To, ","), "all"), dash(e.Network), since,
			i.Endpoints(e.Cluster), dash(e.Valid), dash(e.Ready), cmp.Or(e.Entry, entryAllow), cmp.Or(e.LocalName, localNameLocal), dash(e.Message))
	}
	fmt.Fprintln(w, "\nPORT\tNAME\tLEADS TO\tAS SAID BY")
	for _, p := range i.Ports {
		fmt.Fprintf(w, "%d/%s\t%s\t%s\t%s\n", p.Number, p.Protocol, dash(p.Name), dash(strings.Join(p.Clusters, ", ")), dash(p.Winner))
	}
	printFields(w, i)
	fmt.Fprintln(w, "\nIMPORTED BY\tADDRESS\tSINCE\tREADY\tOF\tREADY ENDPOINTS\tREACHED BY")
	for _, m := range i.Importers {
		printImporter(w, now, m)
	}
	printAddresses(w, i)
}

// printFields says whose word counts, and who says otherwise.
func printFields(w io.Writer, i importview.Import) {
	if len(i.Fields) > 0 {
		fmt.Fprintln(w, "\nFIELD\tVALUE\tAS SAID BY\tOTHERS SAY")
	}
	for _, f := range i.Fields {
		var against []string
		for _, o := range f.Against {
			against = append(against, o.Cluster+": "+o.Value)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Name, f.Value, f.Winner, dash(strings.Join(against, "; ")))
	}
	if len(i.Fields) == 0 && i.Winner != "" && len(i.Exporters) > 1 {
		fmt.Fprintf(w, "\nall else is as %s says, the oldest export\n", i.Winner)
	}
	for _, m := range i.Importers {
		if m.Winner != "" && m.Winner != i.Winner {
			fmt.Fprintf(w, "in %s it is as %s says, by the exports that it may import\n", m.Cluster, m.Winner)
		}
	}
	for _, c := range i.Conflicts {
		fmt.Fprintf(w, "conflict %s: %s (says %s)\n", c.Reason, c.Message, strings.Join(c.Seen, ", "))
	}
}

func printImporter(w io.Writer, now time.Time, m importview.Importer) {
	head := fmt.Sprintf("%s\t%s\t%s\t%s", m.Cluster, dash(strings.Join(m.IPs, ",")), age(now, m.Since), readyText(m))
	if len(m.Sources) == 0 {
		fmt.Fprintf(w, "%s\t-\t-\t-\n", head)
	}
	for _, s := range m.Sources {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", head, s.Cluster, s.Endpoints, howText(s))
		head = "\t\t\t"
	}
}

func readyText(m importview.Importer) string {
	if m.Ready == "True" && m.Message != "" {
		return m.Ready + ": " + m.Message
	}
	return cmp.Or(m.Message, m.Ready, "-")
}

// howText says how sidecars reach the pods, and how pods without one do.
func howText(s importview.Source) string {
	switch s.How {
	case importview.HowOwn:
		return "own pods"
	case importview.HowDirect:
		return "pods, one network"
	case importview.HowGateway:
		return "gateway " + cmp.Or(strings.Join(s.Gateways, ", "), "unknown") + entryText(s)
	}
	return "-"
}

func entryText(s importview.Source) string {
	switch {
	case s.Entry == nil:
		return ""
	case s.Entry.Refused:
		return "; without a sidecar: refused by the export"
	case len(s.Entry.Gateways) == 0:
		return "; without a sidecar: no entry gateway is ready"
	}
	return "; without a sidecar: the entry gateway"
}

// printAddresses lists the addresses that importers hold, where there are any.
func printAddresses(w io.Writer, i importview.Import) {
	fmt.Fprintln(w, "\nIN\tOF\tENDPOINT\tADDRESS\tREADY\tHOW")
	for _, m := range i.Importers {
		for _, s := range m.Sources {
			row := func(name, address string, ready bool, how string) {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%t\t%s\n", m.Cluster, s.Cluster, dash(name), address, ready, how)
			}
			for _, a := range s.Pods {
				row(cmp.Or(a.Pod, a.Hostname), a.Address, a.Ready, "the pod itself")
			}
			for _, a := range s.Synthetic {
				row(cmp.Or(a.Pod, a.Hostname), a.Address, a.Ready, "stands for the pod; sidecars send there through the gateway")
			}
			if s.Entry == nil {
				continue
			}
			for _, p := range s.Entry.Ports {
				how := fmt.Sprintf("port %d of pods without a sidecar", p.Port)
				if !p.Ready {
					how += "; stands by: own pods come first, or nobody with a sidecar answers there"
				}
				row("entry gateway", fmt.Sprintf("%s port %d", cmp.Or(strings.Join(s.Entry.Gateways, ","), "-"), p.At), p.Ready, how)
			}
		}
	}
}
