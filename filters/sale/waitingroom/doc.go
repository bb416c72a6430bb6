// Package waitingroom decides who of those that want to buy in a sale is admitted, and when: at the sale's rate, in
// the order of their arrival, and in an order drawn by lot for those who came before it opened.
package waitingroom
