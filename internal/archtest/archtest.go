// Package archtest holds the architecture of firn as ordinary tests: who may
// import whom, which package owns which technology, how large things may
// grow. A failing test here is a question about the design, not an obstacle:
// the tables may change, with a reason, in the change that needs it.
package archtest
