// Package firn is the vocabulary of the project: the typed strings, plain
// structs, limits and the one error type that every other package speaks.
//
// It follows AWS's terms (function, version, qualifier, layer, execution
// environment) so that a reader who knows Lambda knows the code. It imports
// the standard library only and nothing of the project, and everything else
// may import it.
package firn
