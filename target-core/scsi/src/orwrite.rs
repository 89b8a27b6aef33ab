//! ORWRITE (SBC-4 4.27, 5.10, 5.11): users of a bitmap on the medium set bits of it, and agree by a generation code on when it was
//! cleared.
//!
//! The unit has a current and a previous code. A user sets bits under the code that it knows; the *change generation and clear* operation
//! of ORWRITE(32) clears bits and makes another code the current one, in one, and says what becomes of users that still come with an
//! older one: they are carried out, dropped without a word, or refused. Power on and hard reset forget all codes; a logical unit
//! reset does not.

use crate::{
    big_endian::field,
    block_commands::{Transfer, wrong_data_length},
    failure::Failure,
    opcode_table::VARIABLE_LENGTH,
    plan::{Action, Answer, Plan},
    sense::Sense,
    sense_codes,
    unit::UnitFacts,
};

/// What becomes of a set operation that does not come with the current code (SBC-4 table 29).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Policy {
    /// 0h: with the previous code it is carried out, with any other refused.
    PreviousToo,
    /// 2h: with the previous code it is dropped, with any other refused.
    DropPrevious,
    /// 3h: it is carried out.
    Any,
    /// 5h: it is dropped.
    Drop,
    /// 7h: it is refused.
    #[default]
    CurrentOnly,
}

impl Policy {
    fn of(code: u8) -> Option<Self> {
        match code {
            0x0 => Some(Self::PreviousToo),
            0x2 => Some(Self::DropPrevious),
            0x3 => Some(Self::Any),
            0x5 => Some(Self::Drop),
            0x7 => Some(Self::CurrentOnly),
            _ => None,
        }
    }
}

/// What a set operation comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    CarryOut,
    Drop,
    Refuse,
}

/// What a change generation and clear operation establishes once the bits are cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewGeneration {
    code: u32,
    policy: Policy,
}

/// The generation codes of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Generations {
    current: u32,
    previous: u32,
    policy: Policy,
}

impl Generations {
    /// The bits are cleared: from now on this holds.
    pub(crate) fn change(&mut self, new: NewGeneration) {
        *self = Self {
            current: new.code,
            previous: self.current,
            policy: new.policy,
        };
    }

    fn judge(self, expected: u32) -> Judgement {
        if expected == self.current {
            return Judgement::CarryOut;
        }
        match (self.policy, expected == self.previous) {
            (Policy::Any, _) | (Policy::PreviousToo, true) => Judgement::CarryOut,
            (Policy::Drop, _) | (Policy::DropPrevious, true) => Judgement::Drop,
            (Policy::CurrentOnly, _) | (Policy::PreviousToo | Policy::DropPrevious, false) => {
                Judgement::Refuse
            }
        }
    }

    /// Plans ORWRITE(16), which is as if it expected the code zero, and ORWRITE(32).
    pub(crate) fn plan(self, cdb: &[u8], data_out: &[u8], facts: &UnitFacts<'_>) -> Result<Plan, Failure> {
        let is_long = cdb[0] == VARIABLE_LENGTH;
        let transfer = Transfer::of(cdb, data_out.len(), facts)?;
        let (operation, expected) = if is_long {
            (cdb[2], field(cdb, 20..24) as u32)
        } else {
            (0, 0)
        };
        match operation {
            0 => self.plan_set(&transfer, expected),
            1 => self.plan_change(cdb, &transfer, expected),
            _ => Err(Sense::invalid_cdb_field(2, Some(2)).into()),
        }
    }

    fn plan_set(self, transfer: &Transfer, expected: u32) -> Result<Plan, Failure> {
        let plan = match self.judge(expected) {
            Judgement::CarryOut => Plan::of(Action::OrWrite {
                offset: transfer.offset,
                length: transfer.length,
                fua: transfer.fua,
            }),
            Judgement::Drop => Plan::answer(Answer::good()),
            Judgement::Refuse => return Err(mismatch()),
        };
        Ok(plan.expecting(transfer.asked))
    }

    /// A part of the data would clear a part of the bits, under a code that says that all are.
    fn plan_change(self, cdb: &[u8], transfer: &Transfer, expected: u32) -> Result<Plan, Failure> {
        let policy = Policy::of(cdb[3]).ok_or(Sense::invalid_cdb_field(3, Some(3)))?;
        if expected != self.current {
            return Err(mismatch());
        }
        if transfer.length != transfer.asked {
            return Err(wrong_data_length());
        }
        let new = NewGeneration {
            code: field(cdb, 24..28) as u32,
            policy,
        };
        Ok(Plan::of(Action::ChangeGeneration {
            offset: transfer.offset,
            length: transfer.length,
            fua: transfer.fua,
            new,
        })
        .expecting(transfer.asked))
    }
}

/// 5h/2Ch/0Ch.
fn mismatch() -> Failure {
    Sense::illegal(sense_codes::ORWRITE_GENERATION_MISMATCH).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        block_commands::tests::{facts, identity},
        sense::SenseKey,
    };

    /// As sg3_utils' `sg_write_x --or --32 --bmop=OPERATION,POLICY --generation=EXPECTED,NEW --lba=16 --num=1` sends it.
    fn cdb(operation: u8, policy: u8, expected: u32, new: u32) -> [u8; 32] {
        let mut cdb = [0; 32];
        (cdb[0], cdb[2], cdb[3], cdb[7], cdb[9]) = (0x7F, operation, policy, 0x18, 0x0E);
        (cdb[19], cdb[31]) = (0x10, 1);
        cdb[20..24].copy_from_slice(&expected.to_be_bytes());
        cdb[24..28].copy_from_slice(&new.to_be_bytes());
        cdb
    }

    fn plan(generations: Generations, cdb: &[u8]) -> Result<Action, Failure> {
        let unit = identity();
        let plan = generations.plan(cdb, &[0; 512], &facts(&unit))?;
        assert_eq!(plan.data_out_length, 512);
        Ok(plan.action)
    }

    fn changed(generations: &mut Generations, cdb: &[u8]) {
        let action = plan(*generations, cdb).unwrap();
        let Action::ChangeGeneration { new, .. } = action else {
            panic!("{action:?}");
        };
        generations.change(new);
    }

    /// SBC-4 table 29, cell by cell.
    #[test]
    fn a_set_operation_goes_by_the_policy() {
        use Judgement::{CarryOut, Drop, Refuse};
        for (policy, current, previous, other) in [
            (0x0, CarryOut, CarryOut, Refuse),
            (0x2, CarryOut, Drop, Refuse),
            (0x3, CarryOut, CarryOut, CarryOut),
            (0x5, CarryOut, Drop, Drop),
            (0x7, CarryOut, Refuse, Refuse),
        ] {
            let mut generations = Generations::default();
            changed(&mut generations, &cdb(1, 7, 0, 8));
            changed(&mut generations, &cdb(1, policy, 8, 9));
            for (expected, judged) in [(9, current), (8, previous), (0, other)] {
                assert_eq!(generations.judge(expected), judged, "{policy}, {expected}");
                let set = plan(generations, &cdb(0, 0xF, expected, 77));
                match judged {
                    CarryOut => assert_eq!(
                        set,
                        Ok(Action::OrWrite {
                            offset: 16 * 512,
                            length: 512,
                            fua: false
                        })
                    ),
                    Drop => assert_eq!(set, Ok(Action::Answer(Answer::good()))),
                    Refuse => assert_eq!(set, Err(mismatch())),
                }
            }
        }
    }

    #[test]
    fn the_short_command_expects_zero() {
        let mut short = [0; 16];
        (short[0], short[13]) = (0x8B, 1);
        let mut generations = Generations::default();
        assert!(matches!(plan(generations, &short), Ok(Action::OrWrite { .. })));
        changed(&mut generations, &cdb(1, 7, 0, 5));
        assert_eq!(plan(generations, &short), Err(mismatch()));
    }

    #[test]
    fn a_change_names_the_current_code_and_has_all_of_its_data() {
        let unit = identity();
        let sense = |failure| match failure {
            Err(Failure::Check(sense)) => sense,
            other => panic!("{other:?}"),
        };
        let refused = sense(plan(Generations::default(), &cdb(1, 7, 1, 2)));
        assert_eq!(refused.key, SenseKey::IllegalRequest);
        assert_eq!(refused.additional, sense_codes::ORWRITE_GENERATION_MISMATCH);
        for policy in [1, 4, 6, 8, 15] {
            let refused = sense(plan(Generations::default(), &cdb(1, policy, 0, 2)));
            assert_eq!(refused, Sense::invalid_cdb_field(3, Some(3)));
        }
        let refused = sense(plan(Generations::default(), &cdb(2, 0, 0, 0)));
        assert_eq!(refused, Sense::invalid_cdb_field(2, Some(2)));
        let short = Generations::default().plan(&cdb(1, 7, 0, 2), &[0; 511], &facts(&unit));
        assert_eq!(short, Err(wrong_data_length()));
    }
}
