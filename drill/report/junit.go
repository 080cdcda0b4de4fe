package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/drill"
)

type suite struct {
	XMLName    xml.Name   `xml:"testsuite"`
	Name       string     `xml:"name,attr"`
	Tests      int        `xml:"tests,attr"`
	Failures   int        `xml:"failures,attr"`
	Errors     int        `xml:"errors,attr"`
	Time       string     `xml:"time,attr"`
	Timestamp  string     `xml:"timestamp,attr"`
	Properties []property `xml:"properties>property"`
	Cases      []testcase `xml:"testcase"`
	Out        string     `xml:"system-out"`
}

type property struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type testcase struct {
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Time    string   `xml:"time,attr"`
	Failure *failure `xml:"failure,omitempty"`
}

type failure struct {
	Message string `xml:"message,attr"`
}

// JUnit writes one test suite with a case for each objective.
func JUnit(w io.Writer, d drill.Result) error {
	s := suite{
		Name: "drill " + d.Scenario, Tests: len(d.Checks), Time: fmt.Sprintf("%.3f", d.Ended.Sub(d.Started).Seconds()),
		Timestamp:  d.Started.UTC().Format(time.RFC3339),
		Properties: []property{{"service", d.Service}, {"from", d.From}, {"what", d.What}, {"verdict", d.Verdict}},
	}
	for _, c := range d.Checks {
		t := testcase{Class: "isthmus.drill." + d.Scenario, Name: c.Name, Time: "0"}
		if !c.OK {
			s.Failures++
			t.Failure = &failure{c.Reason}
		}
		s.Cases = append(s.Cases, t)
	}
	var out strings.Builder
	if err := Table(&out, d); err != nil {
		return err
	}
	s.Out = out.String()
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(s); err != nil {
		return fmt.Errorf("write junit: %w", err)
	}
	_, err := io.WriteString(w, "\n")
	return err
}
