package report

import (
	"io"

	"github.com/isthmus-mesh/isthmus/drill"
)

// HTML writes a page.
func HTML(w io.Writer, d drill.Result) error { return Table(w, d) }
