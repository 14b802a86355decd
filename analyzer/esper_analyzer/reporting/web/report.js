"use strict";
// The report: the page of one run.

begin(Page);
