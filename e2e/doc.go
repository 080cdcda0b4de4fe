// Package e2e holds the end-to-end tests: one behaviour in each file, black box, on
// real clusters. They build only with the tag e2e. The same tests run on two grounds:
// `make e2e-sandbox` runs them on the sandbox, `make e2e` on kind. What a test needs
// that a topology may lack it says (Needs), and is skipped there with the reason.
// Tests that touch nothing but their own namespaces run in parallel, after those
// that take something of the mesh away or measure how long something takes.
// What a test applies stands in the YAML file of its name.
package e2e
