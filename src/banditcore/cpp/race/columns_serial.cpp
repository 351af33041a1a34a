#define BANDITCORE_LANES 1
#include "race/columns_body.h"

const banditcore::RaceColumns banditcore::kRaceColumnsSerial = {"serial", prepare, sums, too_fast,
                                                               advance, rates, measure};
