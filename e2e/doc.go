// Package e2e holds the end-to-end tests: one behaviour in each file, black box, on
// real clusters. They build only with the tag e2e; `make e2e` runs them on the
// sandbox. What a test applies stands in the YAML file of its name.
package e2e
