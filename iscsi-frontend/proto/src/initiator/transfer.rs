//! What an initiator sends because it was asked to.

use crate::bhs::{DataOut, Header as _, ReadyToTransfer};

/// The Data-Out PDUs that answer an R2T, each of `most` bytes at most (RFC 7143 11.7, 11.8); `None`: it asks for data that the command
/// does not have, or for none.
pub fn data_out<'a>(
    request: &ReadyToTransfer,
    data: &'a [u8],
    most: usize,
    exp_stat_sn: u32,
) -> Option<impl Iterator<Item = (DataOut, &'a [u8])> + use<'a>> {
    let start = request.buffer_offset.get();
    let length = request.desired_data_transfer_length.get() as usize;
    let wanted = data.get(start as usize..)?.get(..length)?;
    let last = wanted.len().div_ceil(most).checked_sub(1)?;
    let (lun, tag, transfer_tag) = (
        request.lun,
        request.initiator_task_tag,
        request.target_transfer_tag,
    );
    Some(wanted.chunks(most).enumerate().map(move |(index, piece)| {
        let mut header = DataOut::new();
        if index != last {
            header.flags = 0;
        }
        header.lun = lun;
        header.initiator_task_tag = tag;
        header.target_transfer_tag = transfer_tag;
        header.exp_stat_sn = exp_stat_sn.into();
        header.data_sn = (index as u32).into();
        header.buffer_offset = (start + (index * most) as u32).into();
        (header, piece)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bhs::FINAL;

    fn asking_for(offset: u32, length: u32) -> ReadyToTransfer {
        let mut request = ReadyToTransfer::new();
        request.initiator_task_tag = 7.into();
        request.target_transfer_tag = 9.into();
        request.buffer_offset = offset.into();
        request.desired_data_transfer_length = length.into();
        request
    }

    #[test]
    fn an_r2t_is_answered_in_pieces_that_the_target_takes() {
        let data: Vec<u8> = (0..100).collect();
        let pieces: Vec<_> = data_out(&asking_for(20, 50), &data, 20, 3).unwrap().collect();
        let lengths: Vec<_> = pieces.iter().map(|(_, piece)| piece.len()).collect();
        assert_eq!(lengths, [20, 20, 10]);
        for (index, (header, piece)) in pieces.iter().enumerate() {
            let offset = header.buffer_offset.get() as usize;
            assert_eq!(offset, 20 + 20 * index);
            assert_eq!(**piece, data[offset..offset + piece.len()]);
            assert_eq!(header.data_sn.get() as usize, index);
            assert_eq!(
                header.flags & FINAL != 0,
                index == 2,
                "only the last one is final"
            );
            assert_eq!(header.initiator_task_tag.get(), 7);
            assert_eq!(header.target_transfer_tag.get(), 9);
            assert_eq!(header.exp_stat_sn.get(), 3);
        }
    }

    #[test]
    fn data_that_is_not_there_is_not_sent() {
        let data = [0; 100];
        for (offset, length) in [(20, 81), (100, 1), (101, 0), (u32::MAX, u32::MAX), (0, 0)] {
            let answer = data_out(&asking_for(offset, length), &data, 20, 0);
            assert!(answer.is_none(), "{length} bytes at {offset}");
        }
    }
}
